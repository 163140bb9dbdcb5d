#!/usr/bin/env bash
# The whole pipeline on this machine, without Docker: ./run_local.sh [LIST] [--exit] [--clean]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
infra/local/setup.sh
exec .venv/bin/python -m infra.local.run "$@"
