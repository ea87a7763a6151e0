#!/usr/bin/env bash
# Makes the pictures of docs/gallery.md in runs/gallery, by the commands shown there, and copies
# them to docs/gallery. Usage:
#   bash launch/gallery.sh
set -euo pipefail
extras=samples,video
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
PATH=$venv/bin:$PATH
mkdir -p runs/gallery/paintings docs/gallery
cd runs/gallery

# Copies photographs and paintings of the installed packages, under short names.
python - <<'PY'
from metastyle_jax.data import file_sources
from metastyle_jax.data import file_sources
from metastyle_jax.data.images import image_files, image_writing, resizing

paintings, photographs = (file_sources.sample_files(kind) for kind in ('style', 'content'))
chosen = {
    'seurat': 437658, 'gogh': 436535, 'plum': 44858, 'turner': 437854, 'cezanne': 435882,
    'peeters': 827660, 'wu': 48948, 'klimt': 436819, 'greco': 436575, 'fruit': 456949,
    'hodler': 634108, 'renoir': 437430,
}
for name, number in chosen.items():
    (path,) = (path for title, path in paintings.items() if f'({number})' in title)
    picture = image_files.read(path).rgb
    image_writing.write(f'paintings/{name}.png', picture, overwrite=True)
for name, side in {'chelsea': 384, 'china': 384, 'flower': 384, 'coffee': 384}.items():
    picture = resizing.fit(image_files.read(photographs[name]).rgb, side)
    image_writing.write(f'{name}.png', picture, overwrite=True)
PY

adapt() { # NAME [FLAG ...]
  local name=$1
  shift
  [ -f "$name.safetensors" ] || metastyle-adapt --style="paintings/${name%%-*}.png" \
    --out="$name.safetensors" --content_exclude=chelsea,china,flower,coffee "$@"
}
stylize() { metastyle-stylize --overwrite "$@"; }

# Draws pictures side by side with captions: sheet OUT CELL CAPTION=FILE...
sheet() {
  python - "$@" <<'PY'
import sys

from metastyle_jax.data import file_sources
from metastyle_jax.data.images import contact_sheet, image_files, image_writing, resizing

out, cell, *pairs = sys.argv[1:]
captions, files = zip(*(pair.rsplit('=', 1) for pair in pairs))
row = [image_files.read(file).rgb for file in files]
drawn = contact_sheet.contact_sheet([row], captions=[captions], cell=int(cell))
image_writing.write(out, drawn, overwrite=True, quality=85)
PY
}

for name in seurat gogh plum turner; do adapt "$name"; done

echo "blends"
stylize --style=seurat.safetensors --style=plum.safetensors --grid=5 --max_size=200 \
  --input=chelsea.png --output=strip.jpg
stylize --style=seurat.safetensors --style=gogh.safetensors --style=plum.safetensors \
  --style=turner.safetensors --grid=4 --max_size=200 --input=china.png --output=square.webp
stylize --style=seurat.safetensors --style=gogh.safetensors --style=plum.safetensors \
  --animate=24 --milliseconds=120 --max_size=192 --input=chelsea.png --output=tour.webp

echo "strength"
for s in 0 0.25 0.5 0.75 1; do
  stylize --style=gogh.safetensors --strength=$s --input=china.png --output=strength-$s.png
done
sheet strength.jpg 200 0=strength-0.png 0.25=strength-0.25.png 0.5=strength-0.5.png \
  0.75=strength-0.75.png 1=strength-1.png

echo "colours"
stylize --style=seurat.safetensors --input=flower.png --output=plain.png
stylize --style=seurat.safetensors --keep_colours --input=flower.png --output=kept.png
adapt seurat-flower --match_colours=flower.png
stylize --style=seurat-flower.safetensors --input=flower.png --output=matched.png
sheet colours.jpg 240 'style=paintings/seurat.png' 'as it is=plain.png' \
  '--keep_colours=kept.png' '--match_colours=matched.png'

echo "masks"
python - <<'PY'
import numpy as np

from metastyle_jax.data import file_sources
from metastyle_jax.data.images import image_files, image_writing, resizing

height, width = image_files.read('china.png').rgb.shape[:2]
y, x = np.mgrid[:height, :width]
sky = (y < 0.42 * height + 0.05 * height * np.sin(x / 30)).astype(np.float32)
image_writing.write('sky.png', np.repeat(sky[..., None], 3, -1), overwrite=True)
PY
stylize --style=seurat.safetensors --style=gogh.safetensors --mask=sky.png --input=china.png \
  --output=divided.png
sheet masks.jpg 300 'photograph=china.png' 'sky.png=sky.png' 'two styles=divided.png'

echo "stroke size"
for size in 128 256 512; do adapt gogh-$size --style_size=$size; done
for size in 128 256 512; do
  stylize --style=gogh-$size.safetensors --input=chelsea.png --output=stroke-$size.png
done
sheet strokes.jpg 256 'style=paintings/gogh.png' '--style_size=128=stroke-128.png' \
  '--style_size=256=stroke-256.png' '--style_size=512=stroke-512.png'

echo "many styles"
metastyle-adapt --style=paintings --out=library.safetensors \
  --content_exclude=chelsea,china,flower,coffee
stylize --style=library.safetensors --all --input=coffee.png --output=library.webp

cp strip.jpg square.webp tour.webp strength.jpg colours.jpg masks.jpg strokes.jpg library.webp \
  ../../docs/gallery
echo "done: docs/gallery"
