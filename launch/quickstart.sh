#!/usr/bin/env bash
# From nothing to a stylized photograph: sets everything up, meta-trains on the sample pictures,
# adapts to a painting that training never saw, stylizes two photographs.
set -euo pipefail
extras=samples
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
run=${1:-runs/quickstart}
begun=$SECONDS
mkdir -p "$run"

echo "1/4 meta-training (exact second-order meta-gradients)"
"$venv/bin/python" -m metastyle_jax.train --config=configs/quickstart.py --workdir="$run"

# Files of the installed packages: a painting of The Met and two photographs.
{ read -r painting; read -r cat; read -r city; } < <("$venv/bin/python" - <<'PY'
from metastyle_jax import sources
paintings, photographs = (sources.sample_files(kind) for kind in ('style', 'content'))
(painting,) = (path for name, path in paintings.items() if '437658' in name)
print(painting, photographs['chelsea'], photographs['china'], sep='\n')
PY
)
style=$run/grande_jatte.safetensors
if [ "$style" -nt "$run/checkpoints" ]; then
  echo "2/4 adapted already: $style"
else
  echo "2/4 adapting to Georges Seurat's study for La Grande Jatte"
  "$venv/bin/python" -m metastyle_jax.adapt --theta="$run" --style="$painting" \
    --out="$style" --overwrite \
    --content_exclude=chelsea,china --steps=240 --batch=2 --size=128 --style_size=320
fi

echo "3/4 stylizing"
for photograph in "$cat" "$city"; do
  name=$(basename "${photograph%.*}")
  "$venv/bin/python" -m metastyle_jax.stylize --style="$style" \
    --input="$photograph" --output="$run/$name.png" --overwrite
done

echo "4/4 drawing the comparison"
"$venv/bin/python" -m metastyle_jax.compare --painting="$painting" --theta="$run" \
  --style="$style" --input="$cat,$city" \
  --output="$run/result.png" --overwrite
echo "done in $((SECONDS - begun)) s: $run/result.png, the style file $style"
