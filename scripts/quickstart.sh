#!/usr/bin/env bash
# The whole way once: parts and data -> shards -> four stages -> benchmark table.
# Run it again to continue after an interruption; what is finished is reused.
#   OUT=runs/other SEED=1 ./scripts/quickstart.sh [key=value ...]   changes of the recipe
# Every row of the table is asked 60 questions; LIMIT= ./scripts/quickstart.sh asks all there are.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
out="${OUT:-runs/quickstart}"
data="${DATA:-data}"
seed="${SEED:-0}"
limit="${LIMIT-60}"
began=$SECONDS

# real stamps where they can be had, drawn shapes otherwise; decided once, kept in .source
mkdir -p "$data"
source=${SOURCE:-$(cat "$data/.source" 2>/dev/null || echo stamps)}
captions() { omni-shards build "$source" --out "$data/captions" --variants 2 --turns 2 --kinds category,caption; }
code=0
captions || code=$?
if [ $code -eq 3 ] && [ "$source" = stamps ]; then
  source=shapes
  echo "the stamps cannot be fetched: going on with drawn shapes; every figure below is on shapes"
  captions
elif [ $code -ne 0 ]; then
  exit $code
fi
echo "$source" > "$data/.source"
omni-shards build "$source" --out "$data/images" --turns 2
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT  # an interrupted build must not go on behind the next
omni-shards build speech --out "$data/words" --text words --voices hibari &
omni-shards build speech --out "$data/spoken" --text none --questions "$data/images" --voices hibari
omni-shards build text --out "$data/text"
# of the evaluation alone; where one cannot be fetched (3), its rows say so
for held in easyvqa photos recordings; do
  omni-shards build "$held" --out "$data/$held" || [ $? -eq 3 ]
done
wait $!
trap - EXIT

omni-train quickstart "output=$out" "seed=$seed" \
  "sources={captions: ['$data/captions'], images: ['$data/images'], words: ['$data/words'], spoken: ['$data/spoken'], text: ['$data/text']}" "$@"
omni-eval "$out/sft" --suite mini ${limit:+--limit "$limit"} --data "$data" --out "$out/eval" --parent "$(sed -n 's/^text: //p' "$out/recipe.yaml")"
omni-train report "$out"
echo "$((SECONDS - began)) s in all, after set-up"
