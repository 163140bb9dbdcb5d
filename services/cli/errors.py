"""What a command tells instead of a traceback, and the exit status that says it to a script."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from pydantic import ValidationError

from services.common.domain.errors import IndexUnavailableError
from services.common.runtime.settings import MongoSettings

LONGEST_REASON = 200


class ExitStatus(IntEnum):
    """Exit status of every command; 2 is typer's, for a command line that is not understood."""

    OK = 0
    INCOMPLETE = 1
    """The command did its work, and something in the answer is not well."""
    UNAVAILABLE = 3
    """A service or server does not answer."""
    REFUSED = 4
    """A service answered, and refused."""
    BAD_SETTING = 5
    """A setting is not valid."""


EXIT_STATUSES = (
    "Exit status: 0 all is well, 1 done but not all of it is well, 2 command line not understood, "
    "3 a service does not answer, 4 a service refused, 5 a setting is not valid."
)


class CommandError(Exception):
    """The command can't go on.

    Args:
        message: What happened, for a person.
        status: Exit status.
        hint: What the person can do about it.
    """

    def __init__(self, message: str, *, status: ExitStatus, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.hint = hint


class ServiceDownError(CommandError):
    """Nobody answers at an address.

    Args:
        service: Its name.
        address: Where it was looked for, without password.
        setting: Environment variable that holds the address.
        reason: What the network said.
    """

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
    """The service answered with a problem (RFC 9457).

    Args:
        service: Its name.
        status: HTTP status.
        code: The problem's code, where it is one.
        detail: The problem's words.
        lines: What is wrong with which line of a list.
        hint: What the person can do about it, where it is not a matter of the token.
    """

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


@contextmanager
def known_errors() -> Iterator[None]:
    """Turn the errors of settings and of MongoDB into what a command tells."""
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
    except IndexUnavailableError as error:
        raise ServiceDownError(
            "MongoDB",
            address_of(MongoSettings().url),
            setting="MONGO_URL",
            reason=reason_of(error),
        ) from error


def address_of(url: object) -> str:
    """Return an address without user, password, path and options."""
    scheme, _, rest = str(url).partition("://")
    return f"{scheme}://{re.split('[/?]', rest, maxsplit=1)[0].rpartition('@')[2]}"


def reason_of(error: BaseException) -> str:
    """Return what the network said, in a few words."""
    text = str(error) or type(error).__name__
    if isinstance(error, ConnectionRefusedError) or _REFUSED.search(text):
        return "nothing listens there"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    first = text.splitlines()[0]
    return first if len(first) <= LONGEST_REASON else f"{first[:LONGEST_REASON]}…"


_REFUSED = re.compile(r"Connect call failed|Connection refused|Could not connect")
