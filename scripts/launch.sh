# Sourced by the stage scripts: run one stage of a recipe on what there is.
#   laptop or one GPU    scripts/stage3_omni.sh my_recipe.yaml [key=value ...]
#   GPUs of one machine  GPUS=8 scripts/stage3_omni.sh my_recipe.yaml sharding=full
#                        (without GPUs: so many processes on the CPU)
#   SLURM                sbatch --nodes 4 --gpus-per-node 8 --wrap "srun --ntasks-per-node 1 scripts/stage3_omni.sh ..."
#   anything else        LAUNCH="accelerate launch --multi_gpu --num_processes 2 -m stages.cli" scripts/stage3_omni.sh ...
# The parent stage must be finished. A stopped stage exits with 128 + signal and goes on when it
# is run again, on any number of GPUs if the recipe sets data.packs_per_step.
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

launch() {  # STAGE RECIPE [key=value ...]
  local stage=$1 recipe=${2:-quickstart}
  shift $(($# < 2 ? $# : 2))
  if [ -z "${LAUNCH:-}" ] && [ "${SLURM_NNODES:-1}" -gt 1 ]; then
    local head
    head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    LAUNCH="torchrun --nnodes $SLURM_NNODES --nproc-per-node ${GPUS:-gpu} --rdzv-backend c10d
      --rdzv-id $SLURM_JOB_ID --rdzv-endpoint $head:${PORT:-29500} -m stages.cli"
  elif [ -z "${LAUNCH:-}" ] && [ "${GPUS:-1}" -gt 1 ]; then
    LAUNCH="torchrun --standalone --nproc-per-node $GPUS -m stages.cli"
  fi
  exec ${LAUNCH:-omni-train} run "$recipe" --stage "$stage" "$@"
}
