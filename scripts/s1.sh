#!/usr/bin/env bash
# Thinking, from traces. See toy.sh; then omni-eval thinking runs/s1/sft --heldout data/toy/sums
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/toy.sh
toy s1 "sums" "$@"
