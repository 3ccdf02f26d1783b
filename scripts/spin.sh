#!/usr/bin/env bash
# SPIN: rounds of self-play. See toy.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/toy.sh
toy spin "sums" "$@"
