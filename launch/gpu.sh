#!/usr/bin/env bash
# Trains on all GPUs of this machine, and resumes after a crash. Usage:
#   bash launch/gpu.sh [--dry-run] --config=configs/coco.py --workdir=runs/coco [FLAG ...]
# SIGTERM (preemption) and Ctrl-C save a checkpoint; the exit code is 143 or 130. Run it again to resume.
# Environment: RETRIES (20), PAUSE (10, seconds between attempts), EXTRAS (cuda12; for other hardware),
# METASTYLE_VENV (an environment with the package; nothing is installed if it is set).
set -euo pipefail
dry=${DRY_RUN:-}
if [ "${1:-}" = --dry-run ]; then
  dry=1
  shift
fi
if [ $# -eq 0 ]; then
  sed -n '2,6s/^# //p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
retries=${RETRIES:-20} pause=${PAUSE:-10}
if [ -n "$dry" ]; then
  printf 'would install: .[%s]\n' "${EXTRAS:-cuda12}"
  printf 'would run, up to %s times:' "$retries"
  printf ' %q' metastyle-train "$@"
  printf '\n'
  exit 0
fi
here=$(dirname "${BASH_SOURCE[0]}")
if [ -z "${METASTYLE_VENV:-}" ]; then
  extras=${EXTRAS:-cuda12}
  # shellcheck source=launch/setup.sh
  source "$here/setup.sh"
fi
# shellcheck source=launch/retry.sh
source "$here/retry.sh"
retry "$retries" "$pause" "${METASTYLE_VENV:-${venv:-}}/bin/python" -m metastyle_jax.train "$@"
