#!/usr/bin/env bash
# Measures this package and PyTorch on the accelerator of this machine, in less than ten minutes.
# Run it again to continue where it stopped. Usage:
#   bash benchmarks/gpu.sh [FLAG ...]     the flags: bash benchmarks/gpu.sh --help
# Environment: PYTHON (python3), an interpreter that has the package's dependencies.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
if ! "$python" -c 'import absl, jax, optax'; then
  echo "$python has no JAX, absl or optax: set PYTHON to an interpreter with the package" >&2
  exit 2
fi
exec "$python" -m benchmarks.accelerator "$@"
