#!/usr/bin/env bash
# One evening's hour: the quickstart's parts and data, with the longer stages of recipe laptop.
# Run it again to continue after an interruption; settings as in scripts/quickstart.sh.
RECIPE=laptop exec "$(dirname "$0")/quickstart.sh" "$@"
