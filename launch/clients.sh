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
missing=
METASTYLE_VENV="$venv" bash launch/browser.sh || missing+=' browser'
folder=$PWD/runs/clients
mkdir -p "$folder"

# Installs packages into the environment of a client; it is quick if nothing has changed. Bash does
# not end a function at a failure if `||` follows its call, so `&&` joins the steps.
environment() {
  local name=$1
  shift
  [ "$(cat "$folder/$name/installed" 2>/dev/null)" = "$*" ] && return 0
  echo "installing $*"
  if [ "$name" = node ]; then
    # Only the scripts of packages would download libraries for GPUs.
    mkdir -p "$folder/$name" &&
      npm install --silent --ignore-scripts --prefix "$folder/$name" "${@/==/@}"
  else
    "$venv/bin/python" -m venv --clear "$folder/$name" &&
      "$folder/$name/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
  fi && echo "$*" >"$folder/$name/installed"
}

while read -r name packages; do
  read -ra words <<<"$packages"
  environment "$name" "${words[@]}" || missing+=" $name"
done < <("$venv/bin/python" -m benchmarks.clients.catalogue)
code=0
"$venv/bin/python" -m benchmarks.clients --environments="$folder" "$@" || code=$?
if [ -n "$missing" ]; then
  echo "not installed:$missing" >&2
  code=1
fi
exit "$code"
