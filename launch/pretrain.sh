#!/usr/bin/env bash
# Trains the initialization of the package in the six stages of configs/pretrained.py, and writes
# it to RUN/theta.safetensors. The same command resumes. The fifth stage needs a GPU; set
# METASTYLE_EXTRAS=samples,cuda12 to install JAX for it. Flags after RUN go to every stage, such as
# --config.steps=2 --config.model.width=8 for a quick trial. Usage:
#   bash launch/pretrain.sh PHOTOGRAPHS PAINTINGS [RUN [--config.NAME=VALUE ...]]
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n '2,6s/^# //p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
if [[ ${3:-} == -* ]]; then
  echo "$3: name the folder of the run, RUN, before any flags" >&2
  exit 2
fi
for folder in "$1" "$2"; do
  if [ ! -d "$folder" ]; then
    echo "$folder is not a folder: name a folder of photographs and a folder of paintings" >&2
    exit 2
  fi
done
photographs=$(realpath "$1") paintings=$(realpath "$2") run=$(realpath -m "${3:-runs/pretrained}")
more=("${@:4}")
extras=${METASTYLE_EXTRAS:-samples}
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
data=(--config.data.content="folder:$photographs" --config.data.style="folder:$paintings")
number=0
init=(--config.model.init=)
train() { # NAME CONFIG DESCRIPTION: runs one stage, from the last checkpoint of the previous stage
  number=$((number + 1))
  echo "$number/7 $3"
  "$venv/bin/python" -m metastyle_jax.train --config="configs/pretrained.py$2" \
    --workdir="$run/$1" "${init[@]}" "${data[@]}" "${more[@]}"
  last=$(basename -a "$run/$1"/checkpoints/[0-9]* | grep -x '[0-9]*' | sort -n | tail -1)
  init=(--config.model.init="$run/$1/checkpoints/$last")
}
train plain :plain "plain training on all styles at once"
train meta :meta "exact meta-gradients"
train norms :norms "instance norms of its own for each style"
train predict :predict "a predictor of instance norms, together with θ"
train large :large "the same at 256²"
train last "" "exact meta-gradients for the inner rates"
echo "7/7 writing θ"
"$venv/bin/python" - "$run" "$paintings" <<'PY'
import pathlib
import sys

import jax
import numpy as np

from metastyle_jax.data import batching, sources
from metastyle_jax.data.images import resizing
from metastyle_jax.models import gram, norm_predictor, vgg
from metastyle_jax.storage import theta_files

run, paintings = map(pathlib.Path, sys.argv[1:])
steps = [path for path in (run / 'last' / 'checkpoints').iterdir() if path.name.isdigit()]
last = max(steps, key=lambda path: int(path.name))
theta = theta_files.load_theta(last)

# The instance norms of θ become the mean over training styles. Without this, they would be far from
# the norms of any style, because training moves only the sum of them and the predicted offsets.
source = sources.held_out(sources.open_source(f'folder:{paintings}', kind='style'), inside=False)
vgg_params, grams_of = vgg.load(), jax.jit(gram.of_images)
offsets = []
for i in np.linspace(0, len(source) - 1, min(256, len(source))).astype(int):
    picture = resizing.resize(batching.as_float(source.decode(int(i), 256)), 256, 256)
    grams = grams_of(vgg_params, picture[None])
    offsets.append(norm_predictor.predict_offsets(theta.predictor, grams))
mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=(0, 1)), *offsets)
params, predictor = norm_predictor.center(theta.params, theta.predictor, mean)

theta_files.save_theta(
    run / 'theta.safetensors', params,
    settings=theta.settings, rates=theta.rates, predictor=predictor, dtype='float16',
    overwrite=True,
)
print(f'wrote {run / "theta.safetensors"}')
PY
