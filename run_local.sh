#!/usr/bin/env bash
# The whole pipeline on this machine, without Docker: ./run_local.sh [LIST] [--exit] [--clean] [--check]
set -euo pipefail
arguments=()
for argument in "$@"; do
    # a list is named from where the caller stands, not from here
    if [[ -f $argument ]]; then argument=$(realpath -- "$argument"); fi
    arguments+=("$argument")
done
cd "$(dirname "${BASH_SOURCE[0]}")"
infra/local/setup.sh
exec .venv/bin/python -m infra.local.run ${arguments[@]+"${arguments[@]}"}
