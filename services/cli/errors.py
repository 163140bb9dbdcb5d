"""Errors of commands, with message, hint and exit status."""

import errno
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import structlog
from pydantic import ValidationError

from services.common.domain.errors import (
    BrokerUnavailableError,
    DatabaseUnavailableError,
    ObjectStoreUnavailableError,
    PermanentError,
)
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings

LONGEST_REASON = 200

REFUSED = "connection refused"
"""Reason where nothing listens at an address."""


class ExitStatus(IntEnum):
    """Exit status of every command; 2 is typer's, for an invalid command line."""

    OK = 0
    INCOMPLETE = 1
    """Completed, with problems in the result."""
    UNAVAILABLE = 3
    """A service or server does not answer, or this machine fails: its disk is full."""
    REFUSED = 4
    """A service refused the request."""
    BAD_SETTING = 5
    """A setting is invalid."""


EXIT_STATUSES = (
    "Exit status: 0 all is well, 1 done but not all of it is well, 2 command line not understood, "
    "3 a service does not answer or this machine fails, 4 refused, 5 a setting is not valid."
)


class CommandError(Exception):
    """The command failed."""

    def __init__(self, message: str, *, status: ExitStatus, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.hint = hint


class ServiceDownError(CommandError):
    """A service does not answer."""

    def __init__(self, service: str, address: str, *, setting: str, reason: str) -> None:
        super().__init__(
            f"{service} does not answer at {address}: {reason}",
            status=ExitStatus.UNAVAILABLE,
            hint=(
                f"Start everything with ./run_local.sh, or set {setting} to where it runs. "
                "docreco doctor looks at each part."
            ),
        )


class RefusedError(CommandError):
    """The service answered with a problem (RFC 9457)."""

    def __init__(
        self,
        service: str,
        status: int,
        *,
        code: str,
        detail: str,
        lines: tuple[str, ...] = (),
        hint: str = "",
    ) -> None:
        listed = "".join(f"\n  {line}" for line in lines)
        if status in {401, 403}:
            hint = "Set DOCRECO_FETCHER_TOKEN to its token."
        super().__init__(
            f"{service} refused ({status} {code}): {detail}{listed}",
            status=ExitStatus.REFUSED,
            hint=hint,
        )
        self.code = code


_WRONG_NAMES = (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError)


def status_of(error: BaseException) -> ExitStatus:
    """Return the exit status of an error; what only this machine refuses may work later.

    Libraries raise OSError without a number where the content of a file is not what they read.
    """
    if isinstance(error, _WRONG_NAMES) or not isinstance(error, OSError):
        return ExitStatus.REFUSED
    is_of_system = error.errno is not None or isinstance(error, TimeoutError | ConnectionError)
    is_of_machine = is_of_system and error.errno != errno.ENAMETOOLONG
    return ExitStatus.UNAVAILABLE if is_of_machine else ExitStatus.REFUSED


@contextmanager
def translate_errors() -> Iterator[None]:
    """Translate errors of settings, servers and disk into CommandError; mute the services' logs."""
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CommandError(
            f"{error.title}: {where}: {first['msg']}",
            status=ExitStatus.BAD_SETTING,
            hint="Each setting is an environment variable; see docs/configuration.md.",
        ) from error
    except DatabaseUnavailableError as error:
        raise _down("MongoDB", MongoSettings().url, "MONGO_URL", error) from error
    except BrokerUnavailableError as error:
        raise _down("RabbitMQ", AmqpSettings().url, "AMQP_URL", error) from error
    except ObjectStoreUnavailableError as error:
        raise _down("MinIO", S3Settings().endpoint_url, "S3_ENDPOINT_URL", error) from error
    except PermanentError as error:  # that the command did not expect, such as a foreign document
        raise CommandError(f"{error.code}: {error}", status=ExitStatus.REFUSED) from error
    except BrokenPipeError:
        raise  # typer ends quietly, as the reader of the output has
    except OSError as error:
        raise CommandError(reason_of(error), status=status_of(error)) from error
    finally:
        structlog.configure(**before)


def _down(server: str, url: object, setting: str, error: Exception) -> ServiceDownError:
    return ServiceDownError(server, address_of(url), setting=setting, reason=reason_of(error))


def address_of(url: object) -> str:
    """Return an address without user, password, path and options."""
    scheme, _, rest = str(url).partition("://")
    return f"{scheme}://{re.split('[/?]', rest, maxsplit=1)[0].rpartition('@')[2]}"


def reason_of(error: BaseException) -> str:
    """Return a short reason of a network error."""
    text = str(error) or type(error).__name__
    if isinstance(error, ConnectionRefusedError) or _REFUSED.search(text):
        return REFUSED
    if isinstance(error, TimeoutError):
        return "timeout"
    first = text.splitlines()[0]
    return first if len(first) <= LONGEST_REASON else f"{first[:LONGEST_REASON]}…"


_REFUSED = re.compile(r"Connect call failed|Connection refused|Could not connect")
