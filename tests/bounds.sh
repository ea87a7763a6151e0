#!/usr/bin/env bash
# Tests the package with the lowest, or with the newest, versions that setup.cfg allows:
#   bash tests/bounds.sh lowest                             # Python 3.11
#   PYTHON=python3.13 bash tests/bounds.sh newest -k meta   # arguments go to pytest
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case ${1:-} in
  lowest) resolution=lowest-direct python=${PYTHON:-python3.11} ;;
  newest) resolution=highest python=${PYTHON:-python3} ;;
  *) sed -n '2,4s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
esac
name=$1
shift
version=$("$python" -c 'import sys; print("{}.{}".format(*sys.version_info))')
venv=runs/bounds-$name-$version
"$python" -m venv "$venv"
export PATH="$PWD/$venv/bin:$PATH" PIP_DISABLE_PIP_VERSION_CHECK=1
python -m pip install --quiet 'uv>=0.9,<1'
extras=()
for extra in test samples evaluate hub video tensorboard; do extras+=(--extra "$extra"); done
uv pip compile setup.cfg "${extras[@]}" --resolution "$resolution" --python-version "$version" \
  --quiet --no-annotate --no-header --output-file "$venv/versions.txt" >/dev/null
python -m pip install --quiet --requirement "$venv/versions.txt"
python -m pip install --quiet --no-deps --editable .
python -m pip check
grep -E '^(jax|jaxlib|flax|optax|orbax-checkpoint|grain|numpy)==' "$venv/versions.txt"
unset JAX_COMPILATION_CACHE_DIR
python -m pytest -n "${TEST_PROCESSES:-2}" --dist worksteal "$@"
