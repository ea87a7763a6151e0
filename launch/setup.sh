# Creates the virtual environment .venv in the root of the project, and installs the project with the
# extras named in $extras. It is quick if nothing has changed. The other scripts source this file.
# shellcheck shell=bash disable=SC2154
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit

python=${PYTHON:-}
if [ -z "$python" ]; then
  for candidate in python3 python3.13 python3.12 python3.11 python; do
    if command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      python=$candidate
      break
    fi
  done
fi
if [ -z "$python" ]; then
  echo "no Python 3.11 or newer was found: set PYTHON to one" >&2
  exit 2
fi

venv=${METASTYLE_VENV:-$root/.venv}
# A failed or interrupted attempt can leave an environment with Python but without pip.
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1 &&
  ! "$venv/bin/python" -m ensurepip >/dev/null 2>&1; then
  if [ -n "${METASTYLE_VENV:-}" ] && [ -n "$(ls -A "$venv" 2>/dev/null)" ]; then
    echo "METASTYLE_VENV=$venv has no Python with pip: remove it or name another folder" >&2
    exit 2
  fi
  echo "creating the virtual environment $venv"
  if ! "$python" -m venv --clear "$venv"; then
    echo "$venv could not be created: install Python's venv and ensurepip (Debian, Ubuntu:" \
      "apt install python3-venv), or set PYTHON to another Python" >&2
    exit 2
  fi
fi
wanted="$extras $(cat setup.cfg pyproject.toml launch/lock.txt | cksum) $("$venv/bin/python" --version)"
stamp=$venv/.metastyle-$(echo "$extras" | tr ',' '-')
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
  echo "installing packages (once; some minutes)"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint launch/lock.txt --editable ".[$extras]"
  echo "$wanted" >"$stamp"
fi
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$venv/xla-cache}
