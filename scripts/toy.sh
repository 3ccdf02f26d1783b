# Sourced by the launchers of post-training: made-up data, then a recipe; finished parts are kept.
#   scripts/spin.sh [key=value ...]     changes of the recipe, such as text=hub:ORG/LLM
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

toy() {  # RECIPE "TASK ..." [key=value ...]
  local recipe=$1 tasks=$2
  shift 2
  for task in $tasks; do
    omni-shards build toy --task "$task" --count "${COUNT:-2000}" --out "data/toy/$task"
  done
  exec omni-train "$recipe" "$@"
}
