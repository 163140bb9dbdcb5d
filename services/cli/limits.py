"""Options that limit commands to some images, and the error without matches."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from services.cli.errors import CommandError, ExitStatus
from services.cli.options import adding
from services.cli.output import plain
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import open_database
from services.common.domain.image_filter import NO_LIMITS, ImageFilter, Limits
from services.common.runtime.settings import MongoSettings

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONGEST = timedelta(days=3660)
SHOWN = 10
TIMES = "2026-11-30, 2026-11-30T14:00, 14:00, 30m, 3h, 2d or 4w"

_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {
        "collection": Annotated[
            str | None, typer.Option(help="Only images of this collection.", metavar="NAME")
        ],
        "batch": Annotated[
            str | None, typer.Option(help="Only images of this batch.", metavar="ID")
        ],
        "group": Annotated[
            str | None,
            typer.Option(help="Only images of this document, page or writer.", metavar="NAME"),
        ],
        "where": Annotated[
            list[str] | None,
            typer.Option(
                help="Only images whose source has this; may be repeated, with another key.",
                metavar="metadata.KEY=VALUE",
            ),
        ],
        "since": Annotated[
            str | None,
            typer.Option(
                help=f"Only images stored at this time or later: {TIMES}.", metavar="TIME"
            ),
        ],
        "until": Annotated[
            str | None, typer.Option(help="Only images stored before this time.", metavar="TIME")
        ],
    }
)


def to_limits(
    *,
    where: list[str] | None = None,
    since: str | None = None,
    until: str | None = None,
    **names: str | None,
) -> Limits:
    """Return the limits of options.

    Raises:
        typer.BadParameter: One of them is invalid.
    """
    times = {"since": parse_time(since, "--since"), "until": parse_time(until, "--until")}
    try:
        return Limits.model_validate({"where": where or (), **times, **names})
    except ValidationError as error:
        problem = error.errors()[0]
        text = problem["msg"].removeprefix("Value error, ")
        raise typer.BadParameter(text, param_hint=f"--{problem['loc'][0]}") from error


limited = adding("limits", _OPTIONS, to_limits)
"""Decorator of commands that are limited to some images."""


def parse_time(text: str | None, option: str | None = None) -> datetime | None:
    """Parse a date, a date and time, a time of today, or a duration ago; the default zone is UTC.

    Raises:
        typer.BadParameter: It is invalid, or more than ten years ago.
    """
    if text is None:
        return None
    now = datetime.now(tz=UTC)
    ago = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if ago and timedelta() < (length := timedelta(**{UNITS[ago[2]]: int(ago[1])})) <= LONGEST:
        return now - length
    is_time = re.fullmatch(r"\d\d:\d\d(:\d\d)?", text)
    try:
        at = datetime.fromisoformat(f"{now:%Y-%m-%d}T{text}" if is_time else text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"{text!r} is no time: write {TIMES}", param_hint=option
        ) from error


@asynccontextmanager
async def open_images(limits: Limits = NO_LIMITS) -> AsyncIterator[ImageRepository]:
    """Open the images; refuse limits that none of them matches.

    Raises:
        CommandError: No image matches; lists collections and batches.
    """
    async with open_database(MongoSettings()) as database:
        images = ImageRepository(database.images)
        if limits != NO_LIMITS and not await images.count(ImageFilter(limits), most=1):
            message = f"no image has {plain(limits.words)}"
            raise CommandError(message, status=ExitStatus.REFUSED, hint=await known_names(images))
        yield images


async def known_names(images: ImageRepository) -> str:
    """Return the last collections and batches by name, with their numbers of images."""
    said = []
    for words, field in (("Collections", "collection"), ("Batches", "batch_id")):
        counts = await images.count_by(field, SHOWN + 1)
        shown = [f"{plain(name)} ({count})" for name, count in counts.items()]
        more = ["…"] if len(shown) > SHOWN else []
        said.append(f"{words}: {', '.join([*shown[:SHOWN], *more]) or 'none'}.")
    return " ".join(said)
