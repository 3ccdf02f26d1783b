#!/usr/bin/env bash
# Stage 4: multitask instructions. For a laptop, several GPUs or SLURM: see launch.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/launch.sh
launch sft "$@"
