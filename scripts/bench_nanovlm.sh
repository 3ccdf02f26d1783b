#!/usr/bin/env bash
# Our loop beside nanoVLM's, by turns: git clone https://github.com/huggingface/nanoVLM DIR; scripts/bench_nanovlm.sh DIR
set -euo pipefail
dir="${1:+$(realpath "$1")}"
cd "$(dirname "$0")/.."
. scripts/setup.sh
exec python -m stages.bench.nanovlm ${dir:+"$dir"} "${@:2}"
