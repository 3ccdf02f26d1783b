#!/usr/bin/env bash
# Lint, types, layer contracts and tests; sets up what is missing.  ./scripts/test.sh -k loader
# --all: the slow tests too (benchmarks, kills, launchers, compilers), which CI leaves out.
# What fetches data sets is tried with `-m network` alone.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
chosen=(-m "not slow and not network")
if [ "${1:-}" = --all ]; then shift; chosen=(-m "not network"); fi
ruff check .
ruff format --check --quiet .
lint-imports --no-cache
pyright
OMP_NUM_THREADS=1 pytest -n 2 --dist worksteal "${chosen[@]}" "$@"
