"""List the programs that the pipeline runs on this machine: ``./run_local.sh --check``."""

import shutil
import subprocess
from collections.abc import Sequence

from rich.console import Console

from infra.local.install import SERVERS, Server
from services.cli.output import Cell, Table, cell

TIMEOUT_SECONDS = 5.0


def check_programs(servers: Sequence[Server] = SERVERS) -> int:
    """Show the path of each program, or the command to install it; return the exit status."""
    missing = [server for server in servers if server.locate() is None]
    rows = []
    for server in servers:
        path = server.locate()
        state = cell("missing", "red") if path is None else cell("ok", "green")
        rows.append([cell(server.name), state, cell(path or server.command)])
    rows.append([cell("Docker (optional)"), *_docker()])
    Console(highlight=False).print(
        Table("Programs", ("name", "state", "path, or how to install it"), rows)
    )
    return 1 if missing else 0


def _docker() -> list[Cell]:
    """Check Docker and its engine."""
    path = shutil.which("docker")
    if path is None:
        return [cell("missing", "yellow"), cell("")]
    try:
        subprocess.run([path, "version"], capture_output=True, check=True, timeout=TIMEOUT_SECONDS)
    except (subprocess.SubprocessError, OSError):
        return [cell("the engine does not answer", "yellow"), cell(path)]
    return [cell("ok", "green"), cell(path)]
