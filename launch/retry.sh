# Repeats a command until it succeeds; the other scripts source this file.
# shellcheck shell=bash

# retry TIMES PAUSE COMMAND...: repeats the command until its exit code is 0 (success), 2 (a mistake of
# the user, which stays one), or 130 or 143 (stopped by a signal, which is passed on to the command).
# Otherwise the exit code is that of the last attempt.
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
    # A signal ends `wait` at once, while the command still saves a checkpoint.
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
