#!/usr/bin/env bash
# Serves a web page that runs exported styles in the browser. Usage:
#   bash launch/web.sh [STYLE ...]
# The button "Try an example" of the page loads a sample photograph and the styles named here: .onnx
# files, or .safetensors files, which it exports first. Variables:
#   PORT  the port, 8000 if not set
#   HOST  the address to listen at, 127.0.0.1 (only this machine) if not set; 0.0.0.0 for all
set -euo pipefail
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ ${1:-} =~ ^[0-9]+$ ]]; then # the port may also be the first argument
  PORT=$1
  shift
fi
styles=()
names=
for style in "$@"; do
  case $style in /*) ;; *) style=$here/$style ;; esac
  case $style in
    *.onnx | *.safetensors) ;;
    *) echo "$style is not a style: name .onnx or .safetensors files" >&2 && exit 2 ;;
  esac
  [ -f "$style" ] || { echo "$style is not a file: name .onnx or .safetensors files" >&2 && exit 2; }
  name=$(basename "${style%.*}")
  case $names in
    */"$name"/*) echo "two styles have the name $name: rename one of them" >&2 && exit 2 ;;
  esac
  names+=/$name/
  styles+=("$style")
done
venv=$(realpath -m "${METASTYLE_VENV:-.venv}")
METASTYLE_VENV=$venv bash launch/browser.sh runtime
if [ "${#styles[@]}" = 0 ] && [ -f runs/quickstart/style.safetensors ]; then
  styles=(runs/quickstart/style.safetensors)
fi

site=runs/web
rm -rf "$site"
mkdir -p "$site/onnxruntime-web"
cp -r launch/web/* "$site"
cp "$venv"/onnxruntime-web/* "$site/onnxruntime-web"
photographs=metastyle_jax/data/photographs
cp "$photographs/china.jpg" "$photographs/ATTRIBUTION.md" "$site/samples"
for style in ${styles[@]+"${styles[@]}"}; do
  name=$(basename "${style%.*}").onnx
  case $style in
    *.onnx) cp "$style" "$site/samples/$name" ;;
    *) "$venv/bin/python" -m metastyle_jax.export --style="$style" --out="$site/samples/$name" ;;
  esac
done
python3 - "$site/samples" <<'PY'
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
credit = 'danielbuechele, CC BY 2.0'
listed = {
    'photographs': [{'file': 'china.jpg', 'credit': credit}],
    'styles': sorted(path.name for path in folder.glob('*.onnx')),
}
(folder / 'index.json').write_text(json.dumps(listed))
PY
exec python3 launch/web_server.py "$site" "${PORT:-8000}" "${HOST:-127.0.0.1}"
