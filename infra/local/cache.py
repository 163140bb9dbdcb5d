"""What takes long to get is kept outside the clone; standard library only, for the set-up."""

import os
from collections.abc import Mapping
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder, outside the clone, of what takes long to build or download."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "docreco"


def build_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a build: all of ours (proxies, mirrors), and ``extra``."""
    return {**os.environ, **extra}
