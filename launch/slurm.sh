#!/usr/bin/env bash
# Trains on several nodes of a Slurm cluster, one process a GPU. Usage:
#   sbatch --nodes=2 --gpus-per-node=8 --ntasks-per-node=8 launch/slurm.sh \
#     --config=configs/coco.py --workdir=/shared/runs/coco [FLAG ...]
#   bash launch/slurm.sh --dry-run ...   prints what it would do
# Preemption, or the end of the time limit, stops all processes after the same step, with a
# checkpoint, and puts the job back into the queue; so does a lost node, up to RESTARTS (20) times.
# The work directory must be one that the first node sees each time: a shared file system, or
# gs://BUCKET/RUN. PYTHON names the interpreter that has the package (default: that of METASTYLE_VENV
# or of .venv in the folder that sbatch was called in). WAIT (300) is for how many seconds processes may
# outlive the first that ends; it must exceed --heartbeat.
#SBATCH --job-name=metastyle
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
set -euo pipefail
dry=${DRY_RUN:-}
if [ "${1:-}" = --dry-run ]; then
  dry=1
  shift
fi
if [ $# -eq 0 ]; then
  sed -n '2,5s/^# //p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
venv=${METASTYLE_VENV:-${SLURM_SUBMIT_DIR:-$PWD}/.venv}
python=${PYTHON:-$venv/bin/python}
# A process that fails is noticed by the others, which save what they can and end with a code that
# says why; srun would kill them, and all codes would be that of the kill. JAX reads the rest from
# Slurm.
command=(srun --kill-on-bad-exit=0 --wait="${WAIT:-300}" --label "$python" -m metastyle_jax.train --distributed "$@")
if [ -n "$dry" ]; then
  printf 'would run:'
  printf ' %q' "${command[@]}"
  printf '\nwould requeue after codes other than 0, 2 and 130, up to %s times\n' "${RESTARTS:-20}"
  exit 0
fi

stopped=''
"${command[@]}" &
step=$!
# --signal sends SIGTERM to this script alone. srun would answer one by killing the processes;
# scancel hands it to each of them.
trap 'stopped=1; scancel --signal=TERM "$SLURM_JOB_ID" || true' TERM
code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do
  code=0
  wait "$step" || code=$?
done
case $code in
  0 | 2 | 130) exit "$code" ;;
esac
if [ "${SLURM_RESTART_COUNT:-0}" -ge "${RESTARTS:-20}" ]; then
  echo "ended with code $code after ${SLURM_RESTART_COUNT:-0} restarts: not put back" >&2
  exit "$code"
fi
echo "ended with code $code${stopped:+, stopped by Slurm}: back into the queue" >&2
scontrol requeue "$SLURM_JOB_ID"
