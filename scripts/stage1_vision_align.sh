#!/usr/bin/env bash
# Stage 1: the projector of the eye. For a laptop, several GPUs or SLURM: see launch.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/launch.sh
launch vision_align "$@"
