#!/usr/bin/env bash
# Builds the wheel, installs it into an empty environment, and uses it in an empty folder.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$root"
mkdir "$folder/source" "$folder/work"
cp -r metastyle_jax setup.cfg pyproject.toml README.md LICENSE "$folder/source"
"${PYTHON:-python3}" -m venv "$folder/venv"
export PATH="$folder/venv/bin:$PATH" PIP_DISABLE_PIP_VERSION_CHECK=1
unset PYTHONPATH JAX_COMPILATION_CACHE_DIR
python -m pip wheel --quiet --no-deps --wheel-dir "$folder" "$folder/source"
rm -r "$folder/source"
python -m pip install --quiet --constraint launch/lock.txt "$folder"/metastyle_jax-*.whl
python -m pip check
cd "$folder/work"
python - <<'END'
import pathlib, sys
import numpy as np
from PIL import Image
import metastyle_jax

assert pathlib.Path(metastyle_jax.__file__).is_relative_to(sys.prefix), metastyle_jax.__file__
rng = np.random.default_rng(0)
for name in ('painting', 'photo'):
    Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(f'{name}.png')
END
metastyle-adapt --style=painting.png --out=style.safetensors --steps=2 --size=32 --style_size=32
metastyle-stylize --style=style.safetensors --input=photo.png --output=out.png
metastyle-export --style=style.safetensors --out=style.stablehlo
metastyle-train --help | head -3
refused_without() { # what is not installed is named
  if "${@:2}" --style=style.safetensors 2>error.txt; then
    echo "${*:2} worked without the extra $1" >&2
    exit 1
  fi
  grep "$1" error.txt
}
: >film.mp4
refused_without video metastyle-stylize --input=film.mp4 --output=out.mp4
refused_without onnx metastyle-export --out=style.onnx
python - <<'END'
import numpy as np
from PIL import Image
import metastyle_jax

photo = np.asarray(Image.open('photo.png'))
made = metastyle_jax.stylize('style.safetensors', photo)
np.testing.assert_allclose(np.asarray(Image.open('out.png')) / 255, made, atol=0.51 / 255)
exported = metastyle_jax.load_stablehlo('style.stablehlo')
found = np.asarray(exported(photo[None].astype(np.float32) / 255))[0]
np.testing.assert_allclose(found, made, atol=1e-4)
END
python -m venv "$folder/meta"
"$folder/meta/bin/python" -m pip install --quiet --constraint "$root/launch/lock.txt" "$root/launch/meta"
"$folder/meta/bin/python" - <<'END'
import sys
import jax.numpy as jnp
from metastyle_jax import meta

found = meta.meta_gradient(
    meta.Meta(jnp.zeros(2)), jnp.ones((1, 2)), jnp.ones(2),
    inner_loss=lambda w, b: 0.5 * jnp.sum((w - b) ** 2), mode='mixed',
)
assert jnp.isfinite(found.gradient.theta).all()
assert 'flax' not in sys.modules
END
echo "the wheels work by themselves"
