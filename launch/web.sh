#!/usr/bin/env bash
# Serves a web page that runs exported styles in the browser. Usage:
#   bash launch/web.sh [PORT]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash launch/browser.sh runtime
mkdir -p runs/web/onnxruntime-web
cp launch/web/* runs/web
cp "${METASTYLE_VENV:-.venv}"/onnxruntime-web/* runs/web/onnxruntime-web
echo "open http://127.0.0.1:${1:-8000}"
exec python3 -m http.server --bind 127.0.0.1 --directory runs/web "${1:-8000}"
