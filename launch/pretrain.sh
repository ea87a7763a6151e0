#!/usr/bin/env bash
# Trains the θ that ships, in the two stages of configs/pretrained.py, and writes it to
# RUN/theta.safetensors. The same command resumes. Usage:
#   bash launch/pretrain.sh PHOTOGRAPHS PAINTINGS [RUN]
set -euo pipefail
if [ $# -lt 2 ] || [ $# -gt 3 ]; then
  sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
for folder in "$1" "$2"; do
  if [ ! -d "$folder" ]; then
    echo "$folder is no folder: give one of photographs and one of paintings" >&2
    exit 2
  fi
done
photographs=$(realpath "$1") paintings=$(realpath "$2") run=$(realpath -m "${3:-runs/pretrained}")
extras=${METASTYLE_EXTRAS:-samples}
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
data=(--config.data.content="folder:$photographs" --config.data.style="folder:$paintings")
echo "1/3 plain training on all styles at once"
"$venv/bin/python" -m metastyle_jax.train --config=configs/pretrained.py:plain \
  --workdir="$run/plain" "${data[@]}"
echo "2/3 exact meta-gradients"
last=$(basename -a "$run"/plain/checkpoints/[0-9]* | sort -n | tail -1)
"$venv/bin/python" -m metastyle_jax.train --config=configs/pretrained.py \
  --workdir="$run/meta" --config.model.init="$run/plain/checkpoints/$last" "${data[@]}"
echo "3/3 writing θ"
"$venv/bin/python" - "$run" <<'PY'
import pathlib
import sys

from metastyle_jax import checkpoint

run = pathlib.Path(sys.argv[1])
last = max((run / 'meta' / 'checkpoints').glob('[0-9]*'), key=lambda path: int(path.name))
theta = checkpoint.load_theta(last)
checkpoint.save_theta(
    run / 'theta.safetensors', theta.params,
    settings=theta.settings, rates=theta.rates, dtype='float16', overwrite=True,
)
print(f'wrote {run / "theta.safetensors"}')
PY
