#!/usr/bin/env bash
# Makes a folder with custom nodes for ComfyUI, the networks included. Usage:
#   bash launch/comfyui.sh [FOLDER]
# FOLDER is runs/comfyui/metastyle if it is not given; copy it into ComfyUI/custom_nodes. An existing
# folder is refused. Variables:
#   THETA           the θ of the programs, the one in the package if not set
#   METASTYLE_VENV  the environment that makes the programs, .venv if not set
set -euo pipefail
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-runs/comfyui/metastyle}
[ -z "${1:-}" ] || case $1 in /*) ;; *) folder=$here/$1 ;; esac
if [ -e "$folder" ]; then
  echo "$folder exists: remove it, or name another folder" >&2
  exit 2
fi
extras=onnx
# shellcheck source=launch/setup.sh
source launch/setup.sh
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
"$venv/bin/python" -m metastyle_jax export --web="$made/programs" ${THETA:+--theta="$THETA"}
rm -f "$made/programs/refiner.onnx" # the nodes take no gradient steps
cp launch/comfyui/*.py launch/comfyui/pyproject.toml launch/comfyui/requirements.txt launch/comfyui/README.md "$made"
cp LICENSE "$made"
mkdir -p "$(dirname "$folder")"
cp -r "$made" "$folder"
chmod 755 "$folder"
echo "made $folder: copy it into ComfyUI/custom_nodes"
