#!/usr/bin/env bash
# Stage 3: projectors and LLM on interleaved data. For a laptop, several GPUs or SLURM: see launch.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/launch.sh
launch omni "$@"
