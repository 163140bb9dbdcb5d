"""Program of a bounded child: limit this process, apply a function to stdin, print results.

Each line of output is a JSON array of results, or an object with the error that ended it.
"""

import json
import resource
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from services.common.runtime.bounded_child import InputRefusedError

_OOM_SCORE = Path("/proc/self/oom_score_adj")


def main(target: str, memory_bytes: int, cpu_seconds: int, args: list[Any]) -> None:
    """Apply ``target`` to stdin and print each result."""
    try:
        module, _, name = target.partition(":")
        function: Callable[..., Iterable[Any]] = getattr(import_module(module), name)
        _limit(memory_bytes, cpu_seconds)  # later: a library without memory fails in any way
        file = sys.stdin.buffer
        file.seek(0)
        for result in function(file, *args):
            sys.stdout.write(json.dumps([result]) + "\n")
    except InputRefusedError as error:
        _write_failure("refused", str(error))
    except MemoryError:
        _write_failure("memory", "")
    except Exception as error:  # noqa: BLE001 - parsers raise anything on hostile input
        _write_failure("crashed", f"{type(error).__name__}: {error}")


def _limit(memory_bytes: int, cpu_seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    # The soft limit sends SIGXCPU, which identifies the reason; the hard one kills
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # it only writes to a pipe
    with suppress(OSError):  # the out-of-memory killer takes the child, not the service
        _OOM_SCORE.write_text("1000")


def _write_failure(kind: str, detail: str) -> None:
    sys.stdout.write(json.dumps({kind: detail[:1000]}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4]))
