#!/usr/bin/env bash
# Format, lint rules, types, arrows between packages, shell scripts and spelling; changes nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
infra/local/setup.sh
.venv/bin/ruff format --check
.venv/bin/ruff check
.venv/bin/mypy
.venv/bin/lint-imports --no-logo
mapfile -t scripts < <(find . -path './.*' -prune -o -path ./node_modules -prune -o -name '*.sh' -print)
.venv/bin/shellcheck .ci/run "${scripts[@]}"
.venv/bin/codespell
