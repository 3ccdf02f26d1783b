#!/usr/bin/env bash
# Stage 2: the projector of the ear. For a laptop, several GPUs or SLURM: see launch.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/launch.sh
launch audio_align "$@"
