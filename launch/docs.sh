#!/usr/bin/env bash
# Sets everything up, then builds the documentation in docs/_build/html. A warning is an error.
# Arguments go to sphinx-build: `bash launch/docs.sh -b linkcheck` visits the external links.
set -euo pipefail
extras=docs
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
"$venv/bin/python" -m sphinx -W --keep-going -q -j auto -b html "$@" docs docs/_build/html
echo "built docs/_build/html/index.html"
