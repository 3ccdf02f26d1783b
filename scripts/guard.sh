#!/usr/bin/env bash
# A guard model that reasons, then hard-sample DPO. See toy.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/toy.sh
toy guard "guard" "$@"
