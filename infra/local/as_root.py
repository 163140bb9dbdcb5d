"""Debian packages, installed as root or through sudo; standard library only, for the set-up."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from infra.local.cache import build_environment, cache_folder
from infra.local.errors import ServerMissingError
from infra.local.progress import Say, run_and_tell

APT_INSTALL = Path(__file__).with_name("apt_install.sh")


def apt_command(*packages: str) -> str:
    """Return the command that installs packages, relative to the project's folder."""
    return f"sudo infra/local/{APT_INSTALL.name} {' '.join(packages)}"


def install_packages(packages: Sequence[str], say: Say) -> None:
    """Install Debian packages without starting their services.

    Raises:
        ServerMissingError: Not permitted; the message has the command.
        ProgramError: It failed; with the end of its output.
    """
    names = " ".join(packages)
    prefix = _prefix(names, apt_command(*packages))
    say(f"installing from Debian: {names}")
    run_and_tell(
        [*prefix, str(APT_INSTALL), *packages],
        what=f"installing {names}",
        say=say,
        log_path=cache_folder() / "apt-install.log",
        env=build_environment({}),
    )


def _prefix(what: str, command: str) -> list[str]:
    """Return the prefix that runs a command as root."""
    if shutil.which("apt-get") is None:
        raise ServerMissingError(what, f"the package manager of this system: {what}", "no apt-get")
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo is None:
        raise ServerMissingError(what, command, "neither root nor sudo")
    if sys.stdin.isatty():
        return [sudo]
    allowed = subprocess.run([sudo, "-n", "true"], capture_output=True, check=False)
    if allowed.returncode:
        raise ServerMissingError(what, command, "sudo needs a password, and there is no terminal")
    return [sudo, "-n"]
