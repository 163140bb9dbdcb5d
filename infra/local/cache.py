"""Cache folder outside the clone; standard library only, for the set-up."""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """Return the cache folder of builds and downloads."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "docreco"


def build_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a build: this process's (proxies, mirrors) and ``extra``."""
    return {**os.environ, **extra}


@contextmanager
def one_at_a_time(job: str, say: Callable[[str], None]) -> Iterator[None]:
    """Lock a job against other processes during the block."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{job}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process to finish: {job}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
