#!/usr/bin/env bash
# All tests, or those that pytest's arguments choose.
# --coverage [ARGUMENTS]: with coverage, and with its limit where all tests run; takes longer.
# --fast [ARGUMENTS]: unit tests, and those of generated files, without servers and coverage, in
# parallel; not those marked as slow.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
unset PYTHONDONTWRITEBYTECODE # hundreds of processes would each compile all that they import
infra/local/setup.sh
if [[ ${1:-} == --fast ]]; then
    shift
    if [[ $# -eq 0 ]]; then # what is slow is often slow to import, too
        mapfile -t files < <(grep -rL --include='test_*.py' '^pytestmark.*slow' tests/unit)
        set -- "${files[@]}" tests/contract/test_{docs,document_schemas,settings}.py
    fi
    exec .venv/bin/python -m pytest -q --numprocesses auto --durations=5 -p no:schemathesis \
        --hypothesis-profile=fast -m "not slow" "$@"
fi
.venv/bin/python -m infra.local.install
coverage=()
if [[ ${1:-} == --coverage ]]; then
    shift
    coverage=(--cov --cov-report=term-missing:skip-covered)
fi
if [[ $# -eq 0 ]]; then
    # Each worker has servers of its own, and whole files; one more than cores, since many tests wait
    workers=$(($(nproc) < 4 ? $(nproc) + 1 : 4))
    exec .venv/bin/python -m pytest --numprocesses "$workers" --dist loadfile \
        --no-loadscope-reorder ${coverage[@]+"${coverage[@]}"}
fi
exec .venv/bin/python -m pytest ${coverage[@]+"${coverage[@]}" --cov-fail-under=0} "$@"
