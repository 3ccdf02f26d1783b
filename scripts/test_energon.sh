#!/usr/bin/env bash
# Our shards in Megatron-Energon, which pins other versions than we do and so gets its own
# environment: ENERGON_VENV (default .venv-energon). Takes about a minute the first time.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
venv="${ENERGON_VENV:-$PWD/.venv-energon}"
if [ ! -x "$venv/bin/energon" ]; then
  uv venv --quiet --allow-existing --python "$(command -v python)" "$venv"
  VIRTUAL_ENV="$venv" uv pip install --quiet "megatron-energon[av_decode]==7.4.1"
fi
ENERGON="$venv/bin" pytest tests/test_shards_export.py -k energon "$@"
