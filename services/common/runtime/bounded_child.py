"""Run a function over an untrusted file in a child process with memory and CPU limits.

The child gets no environment variables, so it holds no credentials, and it can be killed at any
time, which a thread cannot. Results come back as lines of JSON: nothing that a child sends is
executed here. See docs/decisions/0027-untrusted-files-in-a-child.md.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from services.common.domain.errors import PermanentError, TransientError

ROOT = Path(__file__).parents[3]
_MAIN = "services.common.runtime.bounded_child_main"
_SHOWN_LENGTH = 300
"""Limit of an error's text, in characters."""


class ChildError(PermanentError):
    """A child could not read its file; a retry can't succeed."""

    code = "unreadable_input"


class InputRefusedError(ChildError):
    """The function in the child rejected the file, with a reason."""


class ChildLimitError(ChildError):
    """The child exceeded its limit of memory or CPU time."""


class ChildCrashedError(ChildError):
    """The child ended by an unexpected exception or a signal."""


class ChildStoppedError(TransientError):
    """The child was killed by ``kill``."""

    code = "stopped"


@dataclass(frozen=True)
class ChildLimits:
    """Resource limits of a child process."""

    memory_bytes: int
    """Of the whole process, including libraries (RLIMIT_DATA)."""
    cpu_seconds: int
    max_result_bytes: int = 1024 * 1024
    """Of one result, as JSON."""


class BoundedChild:
    """A child process that applies a function to a file; a context manager.

    Leaving the block kills the child.

    Args:
        target: The function, as ``module:name``. It is called with the file, which is open for
            reading at its beginning, and ``args``; it yields JSON-serialisable results.
        file: Has a file descriptor. The child shares its position: use it again afterwards only,
            when it is at its beginning.
        limits: Set before the function's module is imported.
        args: Further JSON-serialisable arguments.
    """

    def __init__(self, target: str, file: IO[bytes], limits: ChildLimits, *args: Any) -> None:
        self._file = file
        self._limits = limits
        self._is_stopped = False
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [
                *(sys.executable, "-P", "-m", _MAIN),
                *(target, str(limits.memory_bytes), str(limits.cpu_seconds), json.dumps(args)),
            ],
            stdin=file.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            start_new_session=True,  # Ctrl-C is for the service, which then stops the child
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._process.__exit__(kind, error, trace)
        if not self._file.closed:
            # Drop Python's buffer, whose position is the one before the child
            self._file.seek(0, os.SEEK_END)
            self._file.seek(0)

    def kill(self) -> None:
        """Kill the child (thread-safe); waiting readers get ChildStoppedError."""
        self._is_stopped = True
        self._process.kill()

    def results(self) -> Iterator[Any]:
        """Yield what the function yields.

        Raises:
            InputRefusedError: The function raised it.
            ChildLimitError: The child exceeded its limits.
            ChildCrashedError: It ended unexpectedly.
            ChildStoppedError: It was killed by ``kill``.
        """
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - Popen was given PIPE
        while line := stdout.readline(self._limits.max_result_bytes + 1):
            message = _parse(line, self._limits)
            if isinstance(message, dict):
                raise _to_error(message, self._limits)
            yield from message
        self._check_exit()

    def _check_exit(self) -> None:
        status = self._process.wait()
        if self._is_stopped:
            raise ChildStoppedError("reading was stopped")
        if status == -signal.SIGXCPU:
            raise ChildLimitError(
                f"reading it takes more than {self._limits.cpu_seconds} s of CPU time"
            )
        if status == -signal.SIGKILL:
            raise ChildLimitError("out of memory while reading it")
        if status:
            raise ChildCrashedError(f"reading it failed (exit status {status})")


def _parse(line: bytes, limits: ChildLimits) -> dict[str, str] | list[Any]:
    if len(line) > limits.max_result_bytes:
        raise ChildLimitError(f"a result has more than {limits.max_result_bytes} bytes")
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ChildCrashedError("the child did not send JSON") from error
    if not isinstance(message, dict | list):
        raise ChildCrashedError("the child sent neither results nor an error")
    return message


def _to_error(message: dict[str, str], limits: ChildLimits) -> ChildError:
    match message:
        case {"refused": str(detail)}:
            return InputRefusedError(detail[:_SHOWN_LENGTH])
        case {"memory": _}:
            mebibytes = limits.memory_bytes // 2**20
            return ChildLimitError(f"reading it takes more than {mebibytes} MiB of memory")
        case _:
            return ChildCrashedError(str(message.get("crashed"))[:_SHOWN_LENGTH])
