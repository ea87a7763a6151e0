# Runs a command again until it is done; sourced by the other scripts.
# shellcheck shell=bash

# retry TIMES PAUSE COMMAND...: ends with 0, with 2 (a mistake, which no retry mends), with 130 or
# 143 (stopped by a signal, which is passed on to the command), or with the last attempt's code.
retry() {
  local times=$1 pause=$2 code=0 child='' stopped='' attempt
  shift 2
  trap 'stopped=143; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true' TERM
  trap 'stopped=130; [ -z "$child" ] || kill -INT "$child" 2>/dev/null || true' INT
  for attempt in $(seq "$times"); do
    "$@" &
    child=$!
    code=0
    wait "$child" || code=$?
    # A signal ends `wait` at once; the command is still saving.
    while kill -0 "$child" 2>/dev/null; do
      code=0
      wait "$child" || code=$?
    done
    child=''
    case $code in 0 | 2 | 130 | 143) return "$code" ;; esac
    [ -z "$stopped" ] || return "$stopped"
    echo "attempt $attempt of $times ended with code $code" >&2
    [ "$attempt" = "$times" ] || sleep "$pause"
  done
  return "$code"
}
