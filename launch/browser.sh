#!/usr/bin/env bash
# Gets what the browser's test and launch/web.sh need: onnxruntime-web from npm, into
# .venv/onnxruntime-web, and a headless Chromium from Debian's packages. Quick when both are
# there. As root on Debian it installs what is missing; others are told what to install.
#   bash launch/browser.sh          both; what is missing and cannot be had is named, code 1
#   bash launch/browser.sh runtime  onnxruntime-web alone
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=1.30.0
runtime=${METASTYLE_VENV:-.venv}/onnxruntime-web
files=(ort.wasm.bundle.min.mjs ort-wasm-simd-threaded.wasm)

# Installs the first of these packages that there is.
packages() {
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    return 1 # others install their programs themselves
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
  if ! command -v npm >/dev/null; then
    echo "installing npm (once)"
    packages npm || { echo "onnxruntime-web needs npm: install Node.js" >&2; return 1; }
  fi
  local folder
  folder=$(mktemp -d) || return 1
  # npm checks the sum of what it downloads. Of 130 MB two files are needed.
  (cd "$folder" && npm pack --silent "onnxruntime-web@$version" >/dev/null &&
    tar -xzf onnxruntime-web-*.tgz "${files[@]/#/package/dist/}") &&
    mkdir -p "$runtime" && mv "$folder"/package/dist/* "$runtime" &&
    echo "$version" >"$runtime/version"
  local code=$?
  rm -rf "$folder"
  [ $code = 0 ] || echo "onnxruntime-web $version could not be had from npm: are you online?" >&2
  return $code
}

get_browser() {
  for name in chromium-headless-shell chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null && return 0
  done
  echo "installing a headless Chromium (once)"
  packages chromium-headless-shell chromium ||
    { echo "no Chromium, and none could be installed: install chromium" >&2; return 1; }
}

get_runtime || failed=1
[ "${1:-}" = runtime ] || get_browser || failed=1
exit "${failed:-0}"
