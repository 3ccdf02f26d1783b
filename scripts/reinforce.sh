#!/usr/bin/env bash
# A world's data, a warm-up on the solver's answers and reinforcement, and how far it holds under
# another rule and another look: scripts/reinforce.sh RECIPE [key=value ...], RECIPE being
# generalpoints_text, _image or _spoken, or navigation_text or _image. Run it again to continue.
#   COUNT=4000 OUT=runs/mine DATA=data/mine scripts/reinforce.sh generalpoints_text
set -euo pipefail
recipe="${1:-}"
world="${recipe%_*}" variant="${recipe##*_}"
case "$recipe" in
  generalpoints_text | generalpoints_image | generalpoints_spoken) answer=formula ;;
  navigation_text | navigation_image) answer=action ;;
  *) echo "usage: $0 generalpoints_{text,image,spoken} or navigation_{text,image} [key=value ...]" >&2; exit 2 ;;
esac
shift
cd "$(dirname "$0")/.."
. scripts/setup.sh
out="${OUT:-runs/$recipe}" data="${DATA:-data/$recipe}"
side=()
[ "$variant" != image ] || side=(--side 192)
omni-shards build "$world" --variant "$variant" --answer "$answer" "${side[@]}" \
  --count "${COUNT:-1000}" --out "$data"
omni-train "$recipe" "output=$out" "sources.solutions=['$data/train-*.tar']" "$@"
for stage in warm_up rl; do
  omni-eval "$out/$stage" --suite ood --env "kind=$world" --env "variant=$variant" \
    --env "answer=$answer" ${side[@]:+--env side=192} --out "$out/eval/$stage"
done
omni-eval table "$out/eval/warm_up" "$out/eval/rl"
