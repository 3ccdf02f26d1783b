#!/usr/bin/env bash
# One stage alone; its parent must be finished. Laptop: run it as it is. Several GPUs: LAUNCH="accelerate launch -m stages.cli".
# SLURM: sbatch --wrap "srun scripts/stage4_sft.sh my_recipe.yaml". First argument: the recipe.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
exec ${LAUNCH:-omni-train} "${1:-quickstart}" --stage sft "${@:2}"
