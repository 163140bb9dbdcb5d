# Commands of this project, for https://just.systems; each line also works without it (CONTRIBUTING.md)

# list the commands
_default:
    @just --list --unsorted

# install the locked dependencies into .venv
setup:
    infra/local/setup.sh

# format, and apply safe fixes
fmt: setup
    .venv/bin/ruff check --fix-only --quiet && .venv/bin/ruff format

# formatting, rules, types, imports, shell scripts, spelling
lint:
    ./lint_module.sh

# types alone
typing: setup
    .venv/bin/mypy

# all tests, or those that the arguments choose
test *arguments:
    ./run_tests.sh {{ arguments }}

# unit tests without servers, in parallel
test-fast *arguments:
    ./run_tests.sh --fast {{ arguments }}

# everything in containers
up:
    docker compose up --build

# everything as child processes
run *arguments:
    ./run_local.sh {{ arguments }}

# write the generated pages, schemas, dashboards, alert rules and catalogues
docs: setup
    .venv/bin/python -m infra.settings_table && .venv/bin/python -m infra.monitoring.generate && .venv/bin/python -m infra.translations
