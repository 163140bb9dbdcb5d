"""Run long commands with regular progress messages."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from infra.local.errors import ProgramError

SAY_EVERY_SECONDS = 10.0

Say = Callable[[str], None]
"""Called with progress messages, one line each."""


def run_and_tell(
    argv: Sequence[str], *, what: str, say: Say, log_path: Path, env: Mapping[str, str]
) -> None:
    """Run a command to its end; its output goes to a log.

    Args:
        argv: The command; it dies with this process.
        what: Its description.
        say: Called every few seconds with the duration and the number of lines.
        log_path: File of its output.
        env: Its environment.

    Raises:
        ProgramError: Its exit status is not 0; with the end of its output.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with (
        log_path.open("wb") as log,
        subprocess.Popen(
            argv, env=dict(env), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        ) as process,
    ):
        while process.poll() is None:
            try:
                process.wait(SAY_EVERY_SECONDS)
            except subprocess.TimeoutExpired:
                steps = log_path.read_bytes().count(b"\n")
                say(f"  {what}: {time.monotonic() - begin:.0f} s, {steps} steps")
    if process.returncode:
        raise ProgramError(what, f"failed with exit status {process.returncode}", log_path)
