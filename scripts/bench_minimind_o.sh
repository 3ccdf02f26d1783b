#!/usr/bin/env bash
# Our loop beside MiniMind-O's, by turns: git clone https://github.com/jingyaogong/minimind-o DIR; scripts/bench_minimind_o.sh DIR
set -euo pipefail
dir="${1:+$(realpath "$1")}"
cd "$(dirname "$0")/.."
. scripts/setup.sh
exec python -m stages.bench.minimind_o ${dir:+"$dir"} "${@:2}"
