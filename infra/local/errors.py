"""Errors of servers as child processes; each message says what to do."""

from pathlib import Path

TAIL_LINES = 15
TAIL_BYTES = 16_384


class LocalError(Exception):
    """Base of the errors of this package."""


class PortInUseError(LocalError):
    """A server's port is in use."""

    def __init__(self, port: int, *, server: str, variable: str, holder: str | None) -> None:
        by = f" by {holder}" if holder else ""
        super().__init__(f"port {port} of {server} is in use{by}; stop that, or set {variable}")
        self.port = port
        self.variable = variable
        self.holder = holder


class ServerMissingError(LocalError):
    """A server is not installed."""

    def __init__(self, server: str, command: str, reason: str = "") -> None:
        why = f" ({reason})" if reason else ""
        super().__init__(f"{server} is not installed{why}; install it with: {command}")
        self.server = server
        self.command = command


class ProgramError(LocalError):
    """A child process failed."""

    def __init__(self, name: str, what: str, log_path: Path) -> None:
        super().__init__(f"{name} {what}; the end of {log_path}:\n{tail(log_path)}")
        self.name = name
        self.what = what
        self.log_path = log_path


class NotReadyError(ProgramError):
    """It ended before it was ready, or was not ready in time."""


class ProgramGaveUpError(ProgramError):
    """It died too often and is not restarted."""


def tail(log_path: Path) -> str:
    """Return the last lines of a log, indented, or a note that there are none."""
    try:
        with log_path.open("rb") as log:
            log.seek(max(0, log_path.stat().st_size - TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        lines = []
    shown = [line for line in lines if line.strip()][-TAIL_LINES:]
    return "\n".join(f"    {line}" for line in shown or ["(nothing)"])
