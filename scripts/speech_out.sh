#!/usr/bin/env bash
# A model that speaks: voices -> shards -> codec, vocoder, flow, audio head -> what is heard of it.
# Run it again to continue after an interruption; key=value are changes of the recipe.
#   WORDS=words:all OUT=runs/more DATA=data/more scripts/speech_out.sh    400 words, not 40
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
out="${OUT:-runs/speech_out}"
data="${DATA:-data/speech_out}"
made() {  # FOLDER [OPTION ...]
  omni-shards build speech --text "${WORDS:-words}" --heldout-renditions 1 --out "$data/$1" "${@:2}"
}
made voices --renditions 12
made say --task say --voices pico:en-US@1 --heldout-voices none --renditions 12
made repeat --task repeat --voices pico:en-US@1 --heldout-voices none --renditions 12
omni-train speech_out "output=$out" "sources.voices=['$data/voices/train-*.tar']" \
  "sources.say=['$data/say/train-*.tar']" "sources.repeat=['$data/repeat/train-*.tar']" "$@"
omni-eval "$out/speak" --suite speech --data "$data" --out "$out/eval"
