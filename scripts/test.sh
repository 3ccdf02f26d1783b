#!/usr/bin/env bash
# Lint, types, layer contracts and tests; sets up what is missing.  ./scripts/test.sh -k loader
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
ruff check .
ruff format --check --quiet .
lint-imports --no-cache
pyright
OMP_NUM_THREADS=1 pytest -n 2 --dist worksteal "$@"
