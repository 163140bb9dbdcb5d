"""Locate the servers' programs on this machine."""

import os
import shutil
import sys
from pathlib import Path

from infra.local.cache import cache_folder

MINIO_VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
"""Upstream is archived; this is its last commit on the module proxy."""

RABBITMQ_SERVERS = "/usr/lib/rabbitmq/lib"
SYSTEM_FOLDERS = ("/usr/bin", "/usr/local/bin", "/usr/sbin")


def locate_rabbitmq() -> Path | None:
    """Return the server's own start script; the one on the PATH changes the user."""
    found = [*Path(RABBITMQ_SERVERS).glob("rabbitmq_server-*/sbin/rabbitmq-server")]
    if on_path := _which("rabbitmq-server"):
        found += on_path.resolve().parent.parent.glob("sbin/rabbitmq-server")
    usable = [script for script in found if script.with_name("rabbitmq-env").exists()]
    return usable[-1] if usable and locate_epmd() else None


def locate_epmd() -> Path | None:
    """Return Erlang's port mapper."""
    inside = sorted(Path("/usr/lib/erlang").glob("erts-*/bin/epmd"))
    return _which("epmd") or (inside[-1] if inside else None)


def locate_minio() -> Path | None:
    """Return MinIO: on the PATH, else the one that was built."""
    if found := _which("minio"):
        return found
    built = built_minio()
    return built if os.access(built, os.X_OK) else None


def built_minio() -> Path:
    """Return the path of the built MinIO, in a folder per version."""
    return cache_folder() / f"minio-{MINIO_VERSION.rpartition('-')[2]}" / "minio"


def locate_mongo() -> Path | None:
    """Return mongod, else SecantusDB beside this Python."""
    stand_in = Path(sys.executable).with_name("secantusd-py")
    return _which("mongod") or (stand_in if stand_in.exists() else None)


def locate_prometheus() -> Path | None:
    """Return Prometheus."""
    return _which("prometheus")


def locate_alertmanager() -> Path | None:
    """Return Alertmanager, under Debian's name or upstream's."""
    return _which("prometheus-alertmanager") or _which("alertmanager")


def _which(name: str) -> Path | None:
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *SYSTEM_FOLDERS)))
    return Path(found) if found else None
