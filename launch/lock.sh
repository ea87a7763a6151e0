#!/usr/bin/env bash
# Writes launch/lock.txt: one version of each package for every Python and platform. The scripts
# install these. Run it after a change of setup.cfg or launch/constraints.txt, or for new versions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --target "$tools" 'uv>=0.9,<1'
"$tools/bin/uv" pip compile setup.cfg launch/constraints.txt --all-extras --universal \
  --python-version 3.11 --no-annotate --no-header --quiet --upgrade --output-file "$tools/lock.txt"
{
  echo '# One version of each package; made by launch/lock.sh.'
  cat "$tools/lock.txt"
} >launch/lock.txt
echo "launch/lock.txt: $(grep -c == launch/lock.txt) versions"
