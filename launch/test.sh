#!/usr/bin/env bash
# Sets everything up, then runs lint, type checks, the build of the documentation, and tests.
# Arguments go to pytest.
set -euo pipefail
extras=test,samples,bench,evaluate,heif,hub,video,onnx,ui,docs
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy"
METASTYLE_VENV="$venv" bash launch/docs.sh
# Without a browser its test is skipped, unless METASTYLE_BROWSER=required.
METASTYLE_VENV="$venv" bash launch/browser.sh || [ "${METASTYLE_BROWSER:-}" != required ]
# Tests compile as cheaply as they can; what they compile is of no use to other runs.
unset JAX_COMPILATION_CACHE_DIR
"$venv/bin/python" -m pytest -n "${TEST_PROCESSES:-2}" --dist worksteal "$@"
