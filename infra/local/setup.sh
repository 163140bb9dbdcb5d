#!/usr/bin/env bash
# Sets up .venv with whichever Python is recent enough; fast when there is nothing to do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
for python in python3 python3.13 python3.12 python3.11; do
    if "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
        exec "$python" -m infra.local.bootstrap
    fi
done
echo "Python 3.11, 3.12 or 3.13 is needed: sudo apt-get install python3 python3-venv" >&2
exit 1
