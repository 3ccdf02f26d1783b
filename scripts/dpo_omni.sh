#!/usr/bin/env bash
# DPO on pictures and sounds. See toy.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/toy.sh
toy dpo_omni "captions pairs" "$@"
