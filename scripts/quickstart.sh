#!/usr/bin/env bash
# The whole way once: parts and data -> shards -> four stages -> benchmark table.
# scripts/laptop.sh is the same for an hour.
# Run it again to continue after an interruption; what is finished is reused.
#   OUT=runs/other SEED=1 ./scripts/quickstart.sh [key=value ...]   changes of the recipe
# Every row of the table is asked 60 questions; LIMIT= ./scripts/quickstart.sh asks all there are.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
recipe="${RECIPE:-quickstart}"
out="${OUT:-runs/$recipe}"
data="${DATA:-data}"
seed="${SEED:-0}"
limit="${LIMIT-60}"
began=$SECONDS
mkdir -p "$data"

# made FOLDER SOURCE [OPTION ...]: drawn shapes take the place of pictures that cannot be fetched (3).
# What was decided is kept in a file, so that a second run goes on with the same.
made() {
  local name=$1 source code=0 options=("${@:3}")
  source=${SOURCE:-$(cat "$data/.$name.source" 2>/dev/null || echo "$2")}
  [ "$source" = "$2" ] || options=()
  omni-shards build "$source" --out "$data/$name" "${options[@]}" || code=$?
  if [ $code -eq 3 ] && [ "$source" != shapes ]; then
    echo "$source cannot be fetched: drawn shapes are the $name; every figure on them is on shapes"
    source=shapes
    omni-shards build shapes --out "$data/$name"
  elif [ $code -ne 0 ]; then
    exit $code
  fi
  echo "$source" > "$data/.$name.source"
}

set -m  # a group of its own: an interrupted build must not go on behind the next
{
  omni-shards build speech --out "$data/words" --text words:all --renditions 8 --heldout-renditions 1
  omni-shards build speech --out "$data/sentences" --text sentences --sentences 1000 --renditions 1
} &
voices=$!
set +m
trap 'kill -- -$voices 2>/dev/null || true' EXIT
made captions pictures --variants 2 --turns 2 --kinds category,caption
made images pictures --variants 2 --turns 3
made easyvqa easyvqa --turns 6 --yes-no 0.33
omni-shards build vqa --out "$data/vqa" --images "$data/captions"
omni-shards build text --out "$data/text"
# of the evaluation alone; where one cannot be fetched, its rows say so
for asked in photos recordings; do
  omni-shards build "$asked" --out "$data/$asked" || [ $? -eq 3 ]
done
wait $voices
omni-shards build speech --out "$data/spoken" --text none --questions "$data/captions" --per-image 1 --heldout-per-image 1
trap - EXIT

sources=()
for name in $(sed -n 's|^  \([a-z]*\): \[data/.*|\1|p' "stages/recipes/$recipe.yaml"); do
  sources+=("sources.$name=['$data/$name']")
done
omni-train "$recipe" "output=$out" "seed=$seed" "${sources[@]}" "$@"
omni-eval "$out/sft" --suite mini ${limit:+--limit "$limit"} --data "$data" --out "$out/eval" --parent "$(sed -n 's/^text: //p' "$out/recipe.yaml")"
omni-train report "$out"
echo "$((SECONDS - began)) s in all, after set-up"
