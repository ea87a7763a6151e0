#!/usr/bin/env bash
# Trains on several nodes of a Slurm cluster, with one process for each GPU. Usage:
#   sbatch --nodes=2 --gpus-per-node=8 --ntasks-per-node=8 launch/slurm.sh \
#     --config=configs/coco.py --workdir=/shared/runs/coco [FLAG ...]
#   bash launch/slurm.sh --dry-run ...   prints the command instead of running it
# After preemption, the end of the time limit, or the loss of a node, the job goes back into the queue,
# up to RESTARTS (20) times, and resumes from the last checkpoint. Preemption and the time limit stop all
# processes after the same step, with a checkpoint. The first node must find the same work directory
# after each restart: use a shared file system or gs://BUCKET/RUN.
# Environment: PYTHON (the interpreter that has the package; default: that of METASTYLE_VENV, or of .venv
# in the folder where sbatch was called), WAIT (300, seconds that the other processes may continue after
# the first one has ended; it must exceed --heartbeat).
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
# If a process fails, the others notice it and end with an exit code that tells why. --kill-on-bad-exit
# would kill them first, so that all exit codes were that of the kill. With --distributed, JAX reads
# addresses and numbers of the processes from Slurm.
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
# --signal sends SIGTERM only to this script. Passed to srun, it would kill the processes; scancel
# passes it to each process.
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
  echo "ended with code $code after ${SLURM_RESTART_COUNT:-0} restarts: not requeued" >&2
  exit "$code"
fi
echo "ended with code $code${stopped:+, stopped by Slurm}: requeued" >&2
scontrol requeue "$SLURM_JOB_ID"
