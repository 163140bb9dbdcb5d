"""Set up ``.venv`` with poetry; runs on a bare Python 3.11 or newer (see ``setup.sh``)."""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

from infra.local.as_root import install_packages
from infra.local.cache import build_environment, cache_folder, one_at_a_time
from infra.local.errors import LocalError
from infra.local.progress import run_and_tell

ROOT = Path(__file__).parents[2]
STAMP = ROOT / ".venv" / "installed"
POETRY_VERSION = "2.5.1"
MIRROR_PLUGIN = "poetry-plugin-pypi-mirror==0.6.5"
OLDEST_POETRY = 2  # the first that reads [project]
PROBE_TIMEOUT_SECONDS = 5.0
PIP_INDEX = "from pip._internal.models.index import PyPI"


def set_up() -> None:
    """Install the locked dependencies, unless they are installed already.

    Raises:
        LocalError: Something failed; the message has the end of its output.
    """
    if not _is_installed():
        with one_at_a_time("set-up", say):
            if not _is_installed():
                _install_dependencies()


def _is_installed() -> bool:
    return STAMP.exists() and STAMP.read_text() == _fingerprint()


def _install_dependencies() -> None:
    say("setting up the Python environment in .venv (a minute or two, only after a change)")
    if _json_api_is_served():
        _install(_any_poetry(), mirror=None)
    else:
        say("PyPI's JSON API is not served here: going through poetry-plugin-pypi-mirror")
        _install(_private_poetry(), mirror=_index_url())
    STAMP.write_text(_fingerprint())


def _fingerprint() -> str:
    """Return a fingerprint of the environment: lock file, entry points, Python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    parts = [
        (ROOT / "poetry.lock").read_text(),
        json.dumps([project["project"], project["tool"]["poetry"]], sort_keys=True),
        str(ROOT),
        *_extras(),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _extras() -> list[str]:
    """Return poetry's options for the extras that ``DOCRECO_EXTRAS`` names."""
    names = os.environ.get("DOCRECO_EXTRAS", "").split()
    return ["--extras", " ".join(names)] if names else []


def _any_poetry() -> Path:
    """Return a recent poetry of the PATH, otherwise an own one."""
    if found := shutil.which("poetry"):
        answer = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
        version = re.search(r"(\d+)\.", answer.stdout)
        if version and int(version[1]) >= OLDEST_POETRY:
            return Path(found)
    return _private_poetry()


def _private_poetry() -> Path:
    """Return poetry in its own environment in the cache folder, installed if needed."""
    folder = cache_folder() / f"poetry-{POETRY_VERSION}"
    poetry, python, done = (
        folder / "bin" / "poetry",
        folder / "bin" / "python",
        folder / "installed",
    )
    if done.exists() and os.access(python, os.X_OK):
        return poetry
    if importlib.util.find_spec("ensurepip") is None:
        install_packages(["python3-venv"], say)
    say(f"installing poetry {POETRY_VERSION} into {folder}")
    pip_install = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    for argv in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [*pip_install, f"poetry=={POETRY_VERSION}", MIRROR_PLUGIN],
    ):
        log_path = cache_folder() / "install-poetry.log"
        run_and_tell(
            argv, what="installing poetry", say=say, log_path=log_path, env=build_environment({})
        )
    done.touch()
    return poetry


def _install(poetry: Path, *, mirror: str | None) -> None:
    """Run ``poetry install`` for this Python, through a mirror if configured."""
    own = {
        "POETRY_VIRTUALENVS_CREATE": "true",
        "POETRY_VIRTUALENVS_IN_PROJECT": "true",
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",  # no desktop dialog
    }
    if mirror is not None:
        own["POETRY_PYPI_MIRROR_URL"] = mirror
    env = build_environment(own)
    env.pop("VIRTUAL_ENV", None)  # otherwise an activated environment would be used
    for argv in (["env", "use", sys.executable], ["install", *_extras()]):
        run_and_tell(
            [str(poetry), "--no-interaction", "--no-ansi", "--directory", str(ROOT), *argv],
            what="poetry install",
            say=say,
            log_path=cache_folder() / "poetry.log",
            env=env,
        )


def _json_api_is_served() -> bool:
    """Return whether PyPI's JSON API, which poetry needs, knows the first locked release."""
    address = _ask_pip_python("-c", f"{PIP_INDEX}; print(PyPI.pypi_url)")
    first = tomllib.loads((ROOT / "poetry.lock").read_text())["package"][0]
    try:
        with urllib.request.urlopen(  # noqa: S310  the address is pip's own
            f"{address}/{first['name']}/{first['version']}/json", timeout=PROBE_TIMEOUT_SECONDS
        ) as answer:
            return isinstance(json.load(answer), dict)
    except (OSError, ValueError):
        return False


def _index_url() -> str:
    """Return the simple index that pip itself uses."""
    return (
        os.environ.get("PIP_INDEX_URL")
        or _ask_pip_python("-m", "pip", "config", "get", "global.index-url")
        or _ask_pip_python("-c", f"{PIP_INDEX}; print(PyPI.simple_url)")
    )


def _ask_pip_python(*arguments: str) -> str:
    """Return the output of a Python with pip, empty on failure."""
    has_pip = importlib.util.find_spec("pip") is not None
    python = Path(sys.executable) if has_pip else _private_poetry().with_name("python")
    answer = subprocess.run([python, *arguments], capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else ""


def say(line: str) -> None:
    """Show a line."""
    sys.stderr.write(f"{line}\n")


def main() -> int:
    """Set up; return the exit status."""
    try:
        set_up()
    except LocalError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
