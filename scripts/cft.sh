#!/usr/bin/env bash
# Critique fine-tuning. See toy.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/toy.sh
toy cft "sums critique" "$@"
