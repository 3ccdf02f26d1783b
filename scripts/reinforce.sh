#!/usr/bin/env bash
# A world's data, a warm-up on the solver's answers, reinforcement, and two arms of more supervised
# training at equal compute; and how far each holds under another rule and another look:
# scripts/reinforce.sh RECIPE [key=value ...], RECIPE being generalpoints_text, _image or _spoken, or navigation_text or _image. Run it again to continue.
#   COUNT=4000 OUT=runs/mine DATA=data/mine scripts/reinforce.sh generalpoints_text
set -euo pipefail
recipe="${1:-}"
world="${recipe%_*}" variant="${recipe##*_}"
case "$recipe" in
  generalpoints_text) answer=formula most=12 ;;
  generalpoints_image | generalpoints_spoken) answer=json most=12 ;;
  navigation_text | navigation_image) answer=action most=4 ;;
  *) echo "usage: $0 generalpoints_{text,image,spoken} or navigation_{text,image} [key=value ...]" >&2; exit 2 ;;
esac
shift
cd "$(dirname "$0")/.."
. scripts/setup.sh
out="${OUT:-runs/$recipe}" data="${DATA:-data/$recipe}"
side=()
[ "$variant" != image ] || side=(--side 192)
first=()
if [ "$answer" = json ]; then  # the game is learnt in words before it is seen or heard
  omni-shards build "$world" --count "${COUNT:-1000}" --out "$data/words"
  first=("sources.words=['$data/words/train-*.tar']")
fi
for wordings in 1 "$most"; do
  omni-shards build "$world" --variant "$variant" --answer "$answer" "${side[@]}" \
    --wordings "$wordings" --count "${COUNT:-1000}" --out "$data/$wordings"
done
omni-train "$recipe" "output=$out" "sources.solutions=['$data/1/train-*.tar']" \
  "sources.diverse=['$data/$most/train-*.tar']" "${first[@]}" "$@"
arms=(warm_up rl sft sft_diverse)
for stage in "${arms[@]}"; do
  omni-eval "$out/$stage" --suite ood --env "kind=$world" --env "variant=$variant" \
    --env "answer=$answer" ${side[@]:+--env side=192} --out "$out/eval/$stage"
done
omni-eval table "${arms[@]/#/$out/eval/}"
