#!/usr/bin/env bash
# Runs launch/slurm.sh on a Slurm of this machine alone: one slurmctld, two slurmd on loopback. Two
# tasks train, are stopped by a signal, requeued by the script, and finish. Needs root and Debian's packages
# slurm-wlm and munge. Usage:
#   PYTHON=.venv/bin/python bash tests/slurm/run.sh [FOLDER]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=$(realpath -s "${PYTHON:-$root/.venv/bin/python}")
work=$(realpath -m "${1:-$(mktemp -d)}")
for program in munged slurmctld slurmd sbatch; do
  command -v "$program" >/dev/null || {
    echo "$program is missing: apt-get install slurm-wlm munge" >&2
    exit 2
  }
done
mkdir -p "$work"/{state,spoolnode1,spoolnode2,munge}
host=$(hostname -s)
cat >"$work/slurm.conf" <<CONF
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPort=26817
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CryptoType=crypto/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd%n.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
MinJobAge=600
JobRequeue=1
KillWait=60
SchedulerParameters=requeue_delay=1,batch_sched_delay=1,sched_interval=1
NodeName=node1 NodeHostname=$host NodeAddr=127.0.0.1 Port=26818 CPUs=1 State=UNKNOWN
NodeName=node2 NodeHostname=$host NodeAddr=127.0.0.1 Port=26819 CPUs=1 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$work/slurm.conf

pids=()
# shellcheck disable=SC2317 # called by the trap
end() {
  code=$?
  scancel --user=root --quiet 2>/dev/null || true
  for _ in $(seq 20); do [ -z "$(squeue --noheader 2>/dev/null)" ] && break; sleep 0.5; done
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for _ in $(seq 20); do [ -z "$(jobs -pr)" ] && break; sleep 0.5; done
  for pid in $(jobs -pr); do kill -9 "$pid" 2>/dev/null || true; done
  exit "$code"
}
trap end EXIT
dd if=/dev/urandom of="$work/munge/key" bs=1024 count=1 status=none
chmod 600 "$work/munge/key"
munged --foreground --force --socket="$work/munge/socket" --key-file="$work/munge/key" \
  --pid-file="$work/munge/pid" --log-file="$work/munge/log" --seed-file="$work/munge/seed" &
pids+=($!)
for _ in $(seq 50); do [ -S "$work/munge/socket" ] && break; sleep 0.1; done
slurmctld -D & pids+=($!)
slurmd -D -N node1 & pids+=($!)
slurmd -D -N node2 & pids+=($!)
for _ in $(seq 60); do
  [ "$(sinfo --noheader --format=%T%D 2>/dev/null)" = idle2 ] && break
  sleep 1
done
sinfo

cd "$root"
log=$work/job.log
export XLA_FLAGS=--xla_force_host_platform_device_count=2 JAX_PLATFORMS=cpu PYTHON=$python
export PYTHONPATH=$root
# JAX finds the first process by the name of its node, which resolves on a real cluster.
export JAX_COORDINATOR_ADDRESS=127.0.0.1:26820
flags=(--config=configs/quickstart.py:tiny --workdir="$work/run" --heartbeat=20
  --config.outer.devices=0 --config.outer.styles=4 --config.outer.contents=1
  --config.model.width=2 --config.data.size=16 --config.data.style_size=16
  --config.steps=100000 --config.checkpoint.every=100000 --config.log.every=1)
job=$(sbatch --parsable --nodes=2 --ntasks-per-node=1 --output="$log" launch/slurm.sh "${flags[@]}")
echo "job $job"
wait_for() { # PATTERN COUNT SECONDS
  for _ in $(seq "$3"); do
    [ -f "$log" ] && [ "$(grep -c "$1" "$log")" -ge "$2" ] && return 0
    sleep 1
  done
  echo "no '$1' in $log:" >&2
  tail -n 30 "$log" >&2
  return 1
}
wait_for 'first step' 2 400
echo "both tasks train; SIGTERM, as before a preemption"
scancel --batch --signal=TERM "$job"
wait_for 'stopped after step' 2 100
wait_for 'back into the queue' 1 60
steps=$(grep -o 'SIGTERM: stopped after step [0-9]*' "$log" | sort -u)
[ "$(wc -l <<<"$steps")" = 1 ] || { echo "not the same step: $steps" >&2; exit 1; }
echo "both: $steps"
wait_for 'resuming after step' 2 400
grep -h 'resuming after step' "$log"
scancel "$job"
echo "requeued by launch/slurm.sh, and resumed by both tasks"
for _ in $(seq 60); do [ -z "$(squeue --noheader 2>/dev/null)" ] && break; sleep 1; done

log=$work/refused.log
job=$(sbatch --parsable --nodes=2 --ntasks-per-node=1 --output="$log" launch/slurm.sh \
  "${flags[@]}" --config.model.width=3)
wait_for 'choose another --workdir' 1 200
for _ in $(seq 60); do
  state=$(scontrol show job "$job" | grep -o 'JobState=[A-Z]*\|ExitCode=[0-9:]*\|Restarts=[0-9]*' | xargs)
  [[ $state == JobState=FAILED* ]] && break
  sleep 1
done
[ "$state" = "JobState=FAILED Restarts=0 ExitCode=2:0" ] || {
  echo "a run that was refused: $state" >&2
  exit 1
}
echo "a run that was refused is not put back: $state"
