#!/usr/bin/env bash
# Runs Poetry: the one on the PATH, else the one that setup.sh has installed.
set -euo pipefail
PATH=$PATH:$(printf '%s:' "${XDG_CACHE_HOME:-$HOME/.cache}"/docreco/poetry-*/bin)
exec poetry "$@"
