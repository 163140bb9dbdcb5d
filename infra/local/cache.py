"""What takes long to get is kept outside the clone; standard library only, for the set-up."""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder, outside the clone, of what takes long to build or download."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "docreco"


def build_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a build: all of ours (proxies, mirrors), and ``extra``."""
    return {**os.environ, **extra}


@contextmanager
def one_at_a_time(job: str, say: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other process does this job, and keep others waiting for the block's length."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{job}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process to finish: {job}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
