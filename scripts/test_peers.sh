#!/usr/bin/env bash
# transformers' own tests of a model, of generation and of a processor, on a tiny omni model. DIR is
# a checkout of the version installed here; tests/peers/explained.yaml says what does not apply.
# git clone --depth 1 --branch v5.23.0 https://github.com/huggingface/transformers DIR; scripts/test_peers.sh DIR
set -euo pipefail
[ -f "${1:-}/tests/test_modeling_common.py" ] || { echo "usage: $0 DIR, a checkout of transformers" >&2; exit 2; }
dir=$(realpath "$1")
cd "$(dirname "$0")/.."
. scripts/setup.sh
tools="$OMNI_CACHE/peers"  # what those tests import and we do not
[ -d "$tools/parameterized" ] || uv pip install --quiet --target "$tools" parameterized==0.9.0
# not our own options: transformers marks its tests with names that pyproject.toml does not know
export PYTHONPATH="$dir:$tools:$PWD" HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
exec pytest -o addopts= -n 2 --disable-warnings -q tests/peers/transformers_mixins.py "${@:2}"
