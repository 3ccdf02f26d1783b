#!/usr/bin/env bash
# The whole way once: parts and data -> shards -> four stages -> benchmark table.
# Run it again to continue after an interruption; what is finished is reused.
#   OUT=runs/other SEED=1 ./scripts/quickstart.sh [key=value ...]   changes of the recipe
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
out="${OUT:-runs/quickstart}"
data="${DATA:-data}"
seed="${SEED:-0}"
began=$SECONDS

build() { omni-shards build "$@"; }
images() { # name, options: real stamps where they can be had, drawn shapes otherwise
  local name=$1 code=0
  shift
  build "$source" --out "$data/$name" "$@" || code=$?
  [ $code -ne 3 ] || [ "$source" != stamps ] || {
    source=shapes
    echo "the stamps cannot be fetched: going on with drawn shapes; every figure below is on shapes"
    build "$source" --out "$data/$name" "$@"
    code=0
  }
  return $code
}
source=${SOURCE:-stamps}
images captions --variants 2 --turns 2 --kinds category,caption
images images
build speech --out "$data/words" --text words &
build speech --out "$data/spoken" --text none --questions "$data/images"
build text --out "$data/text"
wait $!

omni-train quickstart "output=$out" "seed=$seed" \
  "sources={captions: [$data/captions], images: [$data/images], words: [$data/words], spoken: [$data/spoken], text: [$data/text]}" "$@"
omni-eval "$out/sft" --suite mini --data "$data" --out "$out/eval" --parent wheel:smollm2-135m-instruct
omni-train report "$out"
echo "$((SECONDS - began)) s in all, after set-up"
