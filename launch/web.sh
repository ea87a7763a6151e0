#!/usr/bin/env bash
# Serves a web page that paints in the browser, in the style of any painting. Usage:
#   bash launch/web.sh [STYLE ...]
# The script exports the programs of θ, with which the page stylizes with any painting. The button "Try
# an example" loads a sample photograph and the styles named here: paintings, .onnx files, or
# .safetensors files, which are exported first. If none is named, it loads a sample painting (extra
# samples). The folder runs/web can be copied to any web server. Variables:
#   PORT   the port, 8000 if not set
#   HOST   the address to listen at, 127.0.0.1 (only this machine) if not set; 0.0.0.0 for all
#   THETA  the θ of the programs, the one in the package if not set
#   SERVE  "no" to make the folder only
set -euo pipefail
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ ${1:-} =~ ^[0-9]+$ ]]; then # the port may also be the first argument
  PORT=$1
  shift
fi
shopt -s nocasematch # for suffixes such as .JPG
styles=()
names=''
for style in "$@"; do
  case $style in /*) ;; *) style=$here/$style ;; esac
  case $style in
    *.onnx | *.safetensors | *.jpg | *.jpeg | *.png | *.webp) ;;
    *) echo "$style is not a style: name paintings (JPEG, PNG, WebP), .onnx or .safetensors files" >&2 && exit 2 ;;
  esac
  [ -f "$style" ] || { echo "$style is not a file: name paintings, .onnx or .safetensors files" >&2 && exit 2; }
  name=$(basename "${style%.*}")
  case $names in
    */"$name"/*) echo "two styles have the name $name: rename one of them" >&2 && exit 2 ;;
  esac
  names+=/$name/
  styles+=("$style")
done
photograph=china # the sample photograph gets another name if a style has this one
while [[ $names == */"$photograph"/* ]]; do photograph+=-photograph; done
venv=$(realpath -m "${METASTYLE_VENV:-.venv}")
METASTYLE_VENV=$venv bash launch/browser.sh runtime
credit='' sample_painting=''
if [ "${#styles[@]}" = 0 ]; then
  sample=$("$venv/bin/python" - <<'PY'
from metastyle_jax.data import file_sources
print(next(path for name, path in file_sources.sample_files('style').items() if '437658' in name))
PY
  ) 2>/dev/null && sample_painting=$sample && credit='Georges Seurat (The Met, public domain)'
fi

site=runs/web
rm -rf "$site"
mkdir -p "$site/onnxruntime-web"
cp -r launch/web/* "$site"
cp "$venv"/onnxruntime-web/* "$site/onnxruntime-web"
photographs=metastyle_jax/data/photographs
# Without the package or its extra onnx, the page still takes exported styles.
"$venv/bin/python" -m metastyle_jax export --web="$site/programs" --overwrite ${THETA:+--theta="$THETA"} ||
  echo "the page takes exported styles only, because the programs for paintings could not be made" >&2
cp "$photographs/china.jpg" "$site/samples/$photograph.jpg"
cp "$photographs/ATTRIBUTION.md" "$site/samples"
for style in ${styles[@]+"${styles[@]}"}; do
  name=$(basename "${style%.*}").onnx
  case $style in
    *.onnx) cp "$style" "$site/samples/$name" ;;
    *.safetensors) "$venv/bin/python" -m metastyle_jax.export --style="$style" --out="$site/samples/$name" ;;
    *) cp "$style" "$site/samples/" ;;
  esac
done
[ -z "$sample_painting" ] || cp "$sample_painting" "$site/samples/sunday.jpg"
python3 - "$site/samples" "$credit" "$photograph.jpg" <<'PY'
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
photographs = {sys.argv[3]: 'danielbuechele, CC BY 2.0'}
pictures = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in ('.jpg', '.jpeg', '.png', '.webp'))
listed = {
    'photographs': [{'file': name, 'credit': credit} for name, credit in photographs.items()],
    'paintings': [{'file': name, 'credit': sys.argv[2]} for name in pictures if name not in photographs],
    'styles': sorted(path.name for path in folder.glob('*.onnx')),
}
(folder / 'index.json').write_text(json.dumps(listed))
PY
[ "${SERVE:-}" != no ] || exit 0
exec python3 launch/web_server.py "$site" "${PORT:-8000}" "${HOST:-127.0.0.1}"
