#!/usr/bin/env bash
# Everything a change has to pass: bash tools/run_tests.sh [arguments of pytest]
set -euo pipefail
. "$(dirname "$0")/install.sh" tests
cd "$ROOT"
ruff check .
ruff format --check .
# Two files at a time, in the order of tests/conftest.py; small tensors on few cores: more threads only wait for
# each other.
OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 "$@"
