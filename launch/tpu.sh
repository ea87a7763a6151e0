#!/usr/bin/env bash
# Trains on a TPU VM slice: creates it, installs the package on every host, starts the same command on
# each, and creates the slice again after preemption. Run it on your own machine. Usage:
#   TPU=metastyle ZONE=us-central2-b TYPE=v4-32 bash launch/tpu.sh [--dry-run] \
#     --config=configs/coco.py --workdir=gs://BUCKET/coco [FLAG ...]
# Environment: TPU, ZONE, TYPE; VERSION (tpu-ubuntu2204-base, the runtime), SPOT (1: preemptible, 0: not),
# SOURCE (Git address that each host clones), RETRIES (100), PAUSE (60, seconds between attempts), KEEP
# (1: do not delete the slice at the end).
set -euo pipefail
dry=${DRY_RUN:-}
if [ "${1:-}" = --dry-run ]; then
  dry=1
  shift
fi
if [ $# -eq 0 ] || [ -z "${TPU:-}" ] || [ -z "${ZONE:-}" ] || [ -z "${TYPE:-}" ]; then
  sed -n '2,8s/^# //p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
case "$*" in *--workdir=gs://*) ;; *)
  echo "give --workdir=gs://BUCKET/RUN: the disks of a slice are lost when it is preempted" >&2
  exit 2
  ;;
esac
if [ -z "${SOURCE:-}" ]; then
  echo "set SOURCE to a Git address of this repository: https://HOST/OWNER/metastyle_jax" >&2
  exit 2
fi
tpu=(gcloud compute tpus tpu-vm)
spot=()
[ "${SPOT:-1}" = 0 ] || spot=(--spot)
train=$(printf ' %q' "$@")
install="test -d metastyle_jax || git clone --depth=1 $SOURCE metastyle_jax;
 cd metastyle_jax && python3 -m venv .venv && .venv/bin/pip install --quiet '.[tpu,gs]'"
start="cd metastyle_jax && .venv/bin/python -m metastyle_jax.train --distributed$train"

# Runs a command, or prints it.
say() {
  if [ -n "$dry" ]; then
    printf 'would run:'
    printf ' %q' "$@"
    printf '\n'
  else
    "$@"
  fi
}
on_all() { say "${tpu[@]}" ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"; }
state() {
  "${tpu[@]}" describe "$TPU" --zone="$ZONE" --format='value(state)' 2>/dev/null || echo ABSENT
}
remove() { say "${tpu[@]}" delete "$TPU" --zone="$ZONE" --quiet; }
make() {
  say "${tpu[@]}" create "$TPU" --zone="$ZONE" --accelerator-type="$TYPE" \
    --version="${VERSION:-tpu-ubuntu2204-base}" "${spot[@]}" && on_all "$install"
}

if [ -n "$dry" ]; then
  make
  on_all "$start"
  echo "would repeat up to ${RETRIES:-100} times, with a new slice after preemption"
  [ "${KEEP:-0}" = 1 ] || remove
  exit 0
fi
# The brackets keep pkill from matching the shell in which it runs.
trap 'echo "stopping; the same command resumes" >&2; on_all "pkill -TERM -f [m]etastyle_jax.train" || true; exit 143' TERM INT
code=1
for attempt in $(seq "${RETRIES:-100}"); do
  case $(state) in
    READY) ready=1 ;;
    ABSENT) make && ready=1 || ready=0 ;;
    *) # PREEMPTED, TERMINATED, SUSPENDED, FAILED
      remove || true
      make && ready=1 || ready=0
      ;;
  esac
  if [ "$ready" = 1 ]; then
    code=0
    on_all "$start" || code=$?
    case $code in 0 | 2) break ;; esac
  fi
  echo "attempt $attempt of ${RETRIES:-100} ended with code $code" >&2
  sleep "${PAUSE:-60}"
done
[ "${KEEP:-0}" = 1 ] || remove
exit "$code"
