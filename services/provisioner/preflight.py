"""Check an installation before its servers start, and make the key that encrypts its objects.

``python -m services.provisioner.preflight``. It rejects configuration files that the servers
can't read and, in production, default passwords and published ports without token, login or
password. The key is generated once: without it no object can be read, so it belongs to the backup.

See docs/decisions/0009-passwords-and-encryption-key.md.
"""

import base64
import binascii
import os
import secrets
import stat
import sys
from pathlib import Path

import structlog
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

from services.common.domain.errors import PermanentError
from services.common.runtime.logs import configure_logging
from services.common.runtime.settings import DeploymentSettings, LogSettings, MongoSettings
from services.provisioner.settings import (
    AccessSettings,
    PreflightSettings,
    ServerPasswords,
    UsersSettings,
)

log = structlog.stdlib.get_logger(__name__)

GROUPS: tuple[type[BaseSettings], ...] = (
    *(DeploymentSettings, ServerPasswords, UsersSettings, MongoSettings),
    *(AccessSettings, PreflightSettings),
)
"""Settings to check before the start."""
NAMES_IN_ENV_FILE = {
    "USERS_MINIO_PASSWORD": "MINIO_AMQP_PASSWORD",
    "PREFLIGHT_KMS_KEY": "MINIO_KMS_SECRET_KEY",
    "MONGO_": "MONGO_ROOT_USER and MONGO_ROOT_PASSWORD",
    "MONGO_USER": "MONGO_ROOT_USER",
    "MONGO_PASSWORD": "MONGO_ROOT_PASSWORD",
}
KEY_BYTES = 32
READABLE_BY_ALL = 0o444
"""The folder protects it: only its owner, MinIO's user, may enter."""


class KeyConflictError(PermanentError):
    """The configured key is malformed, or differs from the one in use."""

    code = "kms_key_conflict"


class UnreadableFilesError(PermanentError):
    """The servers' users can't read their configuration."""

    code = "unreadable_configuration"


def check_readable(folder: Path) -> None:
    """Check that all users may read all files and enter all folders.

    Raises:
        UnreadableFilesError: They may not, as after a clone with ``umask 077``.
    """
    unreadable = [folder] if not _is_readable(folder) else []
    for root, folders, files in os.walk(folder):
        paths = (Path(root, name) for name in (*folders, *files))
        unreadable += [path for path in paths if not _is_readable(path)]
    if unreadable:
        names = ", ".join(str(path.relative_to(folder)) for path in sorted(unreadable)[:5])
        raise UnreadableFilesError(
            f"{len(unreadable)} files or folders cannot be read by the servers' users ({names}):"
            " in the clone, run chmod -R go+rX prometheus grafana infra/docker"
        )


def _is_readable(path: Path) -> bool:
    for_all = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
    wanted = os.R_OK | (os.X_OK if path.is_dir() else 0)
    return path.stat().st_mode & for_all == for_all and os.access(path, wanted)


def keep_key(path: Path, given: SecretStr | None) -> bool:
    """Ensure that the key file exists; return whether it was created.

    Args:
        path: The file, in a persistent folder.
        given: An existing key, ``name:base64 of 32 bytes``.

    Raises:
        KeyConflictError: ``given`` is malformed, or another key is in use.
    """
    key = given.get_secret_value() if given is not None else None
    if key is not None:
        _check(key)
    if path.exists():
        if key not in {None, path.read_text()}:
            raise KeyConflictError(
                f"{path} holds another key: stored objects would become unreadable"
            )
        return False
    new = path.with_name(f"{path.name}.new")
    new.write_text(key or f"docreco:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}")
    new.chmod(READABLE_BY_ALL)
    with new.open() as file:
        os.fsync(file.fileno())
    new.replace(path)
    return True


def _check(key: str) -> None:
    name, _, encoded = key.partition(":")
    try:
        is_right = bool(name) and len(base64.b64decode(encoded, validate=True)) == KEY_BYTES
    except binascii.Error:
        is_right = False
    if not is_right:
        raise KeyConflictError("the key must have the form name:base64 of 32 bytes")


def refusals() -> list[str]:
    """Return all settings that prevent the start, one line each."""
    found = []
    for group in GROUPS:
        try:
            group()
        except ValidationError as error:
            prefix = group.model_config.get("env_prefix", "")
            for problem in error.errors(include_input=False, include_url=False):
                setting = f"{prefix}{'.'.join(map(str, problem['loc']))}".upper()
                reason = problem["msg"].removeprefix("Value error, ")
                found.append(f"{_name_in_env_file(setting)}: {reason}")
    return list(dict.fromkeys(found))


def _name_in_env_file(setting: str) -> str:
    """Return a setting's name in ``.env``."""
    return NAMES_IN_ENV_FILE.get(setting, setting.removeprefix("USERS_"))


def main() -> int:
    """Check once; return the exit status."""
    configure_logging(LogSettings(), service="preflight")
    if found := refusals():
        for refusal in found:
            log.error("start refused", reason=refusal)
        return 1
    settings = PreflightSettings()
    try:
        if settings.configuration is not None:
            check_readable(settings.configuration)
        is_new = keep_key(settings.kms_key_file, settings.kms_key)
    except (KeyConflictError, UnreadableFilesError) as error:
        log.error("start refused", code=error.code, reason=str(error))  # noqa: TRY400  not a bug
        return 1
    log.info("preflight passed", env=DeploymentSettings().env, key_is_new=is_new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
