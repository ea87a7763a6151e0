#!/usr/bin/env bash
# Opens exported styles in other programs, and prints how near they are to JAX and how fast. It first
# installs each of them into a folder of its own under runs/clients (about 6 GB). Usage:
#   bash launch/clients.sh [FLAG...]     for the flags: python -m benchmarks.clients --help
# It ends with 1 if a program cannot be installed, or differs by more than it should.
set -euo pipefail
# shellcheck disable=SC2034
extras=onnx,test
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
METASTYLE_VENV="$venv" bash launch/browser.sh
folder=$PWD/runs/clients
mkdir -p "$folder"

# Installs packages into the environment of a client; it is quick if nothing has changed.
environment() {
  local name=$1
  shift
  [ "$(cat "$folder/$name/installed" 2>/dev/null)" = "$*" ] && return 0
  echo "installing $*"
  if [ "$name" = node ]; then
    mkdir -p "$folder/$name"
    # Only the scripts of packages would download libraries for GPUs.
    npm install --silent --ignore-scripts --prefix "$folder/$name" "${@/==/@}"
  else
    "$venv/bin/python" -m venv --clear "$folder/$name"
    "$folder/$name/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
  fi
  echo "$*" >"$folder/$name/installed"
}

missing=
while read -r name packages; do
  read -ra words <<<"$packages"
  environment "$name" "${words[@]}" || missing+=" $name"
done < <("$venv/bin/python" -m benchmarks.clients.catalogue)
code=0
"$venv/bin/python" -m benchmarks.clients --environments="$folder" "$@" || code=$?
[ -z "$missing" ] || echo "not installed:$missing" >&2
[ -z "$missing" ] || exit 1
exit "$code"
