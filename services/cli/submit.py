"""``docreco submit``: submit a list of image URLs, or images, to the fetcher."""

import asyncio
import os
import sys
import zlib
from collections.abc import AsyncIterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from io import BufferedReader, BytesIO, RawIOBase
from pathlib import Path
from typing import IO, Annotated, cast

import typer
from pydantic import HttpUrl

from services.cli.errors import CommandError, ExitStatus, status_of
from services.cli.fetcher import open_fetcher
from services.cli.folder import files_of, packed, readable
from services.cli.options import ColumnOfTexts, ColumnOfUrls, Encoding, tabular
from services.cli.output import Output, Table, cell, plain
from services.cli.parquet_folder import merged, parquet_files
from services.cli.reading import render_reading
from services.cli.settings import CliSettings
from services.cli.watch import watch_batch
from services.common.adapters.fetcher_api import FetcherClient
from services.common.domain.fetcher_answers import AS_FOUND, ListRequest, Preview, Submission
from services.common.domain.image_formats import begins_as_image, is_pdf
from services.common.domain.tables.list_format import ListFormat, sniff_archive, sniff_format

SHOWN_REJECTIONS = 20
_PEEKED_BYTES = 4096
_GZIP_BITS = 31
LMDB_FILE = "data.mdb"
"""A folder that holds it is a database of LMDB, not a folder of images."""
_ENDINGS = {
    ListFormat.TEXT: "txt",
    ListFormat.TABLE: "csv",
    ListFormat.TSV: "tsv",
    ListFormat.JSON_LINES: "jsonl",
    ListFormat.JSON: "json",
    ListFormat.PARQUET: "parquet",
}


Source = Annotated[
    str,
    typer.Argument(
        metavar="LIST",
        help="A file (.txt one URL a line; .csv and .tsv with columns url, annotation; .jsonl; "
        ".parquet; each also .gz) or a .zip or .tar(.gz) of images or pages, the http(s) address "
        "of one, - for standard input, an image, a folder, or images in Parquet or LMDB; with "
        "--pages also a PDF.",
    ),
]
StdinFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Format of standard input: txt, csv, tsv, jsonl or parquet. Default: detected.",
    ),
]
Name = Annotated[str | None, typer.Option(help="Displayed name of the batch.")]
CollectionName = Annotated[
    str | None,
    typer.Option(help="Collection of its images; default: the name of archive, folder or list."),
]
IdempotencyKey = Annotated[
    str | None, typer.Option(help="Idempotency key: the same key and list give the same batch.")
]
ColumnOfGroups = Annotated[
    str | None,
    typer.Option(
        help="Name of the column that says of which document, page or writer an image is; by "
        "default found."
    ),
]
Licence = Annotated[
    str | None, typer.Option(help="Of all images whose row says none, such as CC-BY-4.0.")
]
Pages = Annotated[
    bool,
    typer.Option(
        "--pages", help="Its images are pages, which are cut into lines; PDFs are taken, too."
    ),
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Refuse the list if a row is rejected or had to be interpreted."),
]
OnlyShown = Annotated[
    bool, typer.Option("--dry-run", help="Dry run: only show how it would be read.")
]
Watched = Annotated[bool, typer.Option("--watch", help="Wait until the batch is finished.")]


@tabular
async def submit(
    source: Source,
    *,
    stdin_format: StdinFormat = None,
    name: Name = None,
    collection: CollectionName = None,
    idempotency_key: IdempotencyKey = None,
    encoding: Encoding = None,
    url_column: ColumnOfUrls = None,
    text_column: ColumnOfTexts = None,
    group_column: ColumnOfGroups = None,
    licence: Licence = None,
    pages: Pages = False,
    strict: Strict = False,
    dry_run: OnlyShown = False,
    watch: Watched = False,
    output: Output,
) -> ExitStatus:
    """Submit a list of image URLs, or local images or pages, as a batch.

    Shows the numbers of accepted and rejected rows.
    """
    asked = (name, collection, encoding, url_column, text_column, group_column, licence)
    request = ListRequest(*asked, strict=strict, dry_run=dry_run, pages=pages)
    settings = CliSettings()
    async with open_fetcher(settings) as fetcher:
        submission = await send(
            fetcher,
            source,
            request,
            stdin_format=stdin_format,
            idempotency_key=idempotency_key,
        )
        if watch and not dry_run:
            every_seconds = settings.poll_seconds
            shown = _render(submission, settings.review_url)
            return await _watch(fetcher, submission, output, shown, every_seconds=every_seconds)
    rendered = _render(submission, settings.review_url, pages=pages)
    output.print(submission.model_dump(exclude_unset=True), *rendered)
    return ExitStatus.OK if dry_run else _status(submission, ExitStatus.OK)


async def _watch(
    fetcher: FetcherClient,
    submission: Submission,
    output: Output,
    shown: Sequence[Table | str],
    *,
    every_seconds: float,
) -> ExitStatus:
    """Show what was accepted, and follow the batch to its end."""
    if output.is_for_people:  # at once
        output.print({}, *shown)
    status = await watch_batch(
        fetcher,
        submission.batch_id,
        output,
        every_seconds=every_seconds,
        also={"submission": submission.model_dump(exclude_unset=True)},
        shown=() if output.is_for_people else shown,
    )
    return _status(submission, status)


def _status(submission: Submission, otherwise: ExitStatus) -> ExitStatus:
    return ExitStatus.INCOMPLETE if submission.rejected_count else otherwise


async def send(
    fetcher: FetcherClient,
    source: str,
    request: ListRequest = AS_FOUND,
    *,
    stdin_format: str | None = None,
    idempotency_key: str | None = None,
) -> Submission:
    """Submit a list, an archive, a folder or an image.

    Args:
        fetcher: Its client.
        source: Path, ``-``, or an http(s) URL that the fetcher downloads.
        request: Parameters; with ``dry_run`` the result is a Preview.
        stdin_format: File suffix for the format of standard input; None: detected.
        idempotency_key: See the fetcher's API.

    Raises:
        CommandError: There is no such file.
        FetcherUnavailableError: The fetcher does not answer.
        FetcherRefusedError: It refuses.
    """
    if source.startswith(("http://", "https://")):
        return await fetcher.submit_url(source, request=request, idempotency_key=idempotency_key)
    with ExitStack() as stack:
        opening = _opened(source, request, stdin_format)
        file = await asyncio.to_thread(stack.enter_context, opening)
        return await fetcher.submit_file(
            file.content,
            file_name=file.name,
            request=replace(request, kind=file.kind),
            idempotency_key=idempotency_key,
        )


@dataclass(frozen=True)
class _File:
    """Content to send, with its name."""

    content: IO[bytes] | AsyncIterable[bytes]
    name: str
    kind: str | None = None


@contextmanager
def _opened(source: str, request: ListRequest, stdin_format: str | None) -> Iterator[_File]:
    path = Path(source)
    database = path / LMDB_FILE
    if source == "-":
        with _standard_input() as content:
            yield _File(content, f"stdin.{stdin_format}" if stdin_format else _name_of(content))
    elif database.is_file():
        with _local_file(database) as content:
            yield _File(content, f"{readable(path.name)}.mdb")
    elif path.is_dir():
        name, files = readable(path.resolve().name) or "folder", files_of(path)
        if tables := parquet_files(files):
            with merged(tables) as content:
                yield _File(content, f"{name}.parquet")
        else:
            yield _File(packed(files, documents=request.pages), f"{name}.tar", "folder")
    else:
        with _local_file(path) as content:
            yield _File(content, readable(path.name))


def _name_of(content: IO[bytes]) -> str:
    """Return a name by the first bytes, without consuming them; a list's has its suffix."""
    start = cast("BufferedReader", content).peek(_PEEKED_BYTES)
    with suppress(zlib.error):  # it is not gzip
        start = zlib.decompressobj(_GZIP_BITS).decompress(start, _PEEKED_BYTES)
    if begins_as_image(start) or is_pdf(start) or sniff_archive(start):
        return "stdin"
    return f"stdin.{_ENDINGS[sniff_format(BytesIO(start))]}"


@contextmanager
def _standard_input() -> Iterator[IO[bytes]]:
    content = BufferedReader(cast("RawIOBase", sys.stdin.buffer))
    try:
        yield content
    finally:
        with suppress(ValueError):  # closed: aiohttp closes sent files in a thread
            content.detach()


def _local_file(path: Path) -> IO[bytes]:
    try:
        # by its descriptor: the client would try to send the path, which may be no text
        return os.fdopen(os.open(path, os.O_RDONLY), "rb")
    except OSError as error:
        raise CommandError(
            f"{path}: {error.strerror}",
            status=status_of(error),
            hint="Give the path or http(s) URL of a list, - for standard input, or a folder.",
        ) from error


def _render(
    submission: Submission, review_url: HttpUrl, *, pages: bool = False
) -> list[Table | str]:
    rejected, count = submission.rejected, submission.rejected_count
    shown: list[Table | str] = []
    if rejected:
        rows = [
            [cell(each.line), cell(each.value), cell(each.code, "red"), cell(each.detail)]
            for each in rejected
        ]
        columns = ("line", "value", "code", "detail")
        shown.append(Table(f"{count} rejected", columns, rows, most=SHOWN_REJECTIONS))
    shown += render_reading(submission.reading)
    if isinstance(submission, Preview):
        lines = [[cell(row.line), cell(row.label), cell(row.annotation)] for row in submission.rows]
        shown.insert(0, Table("as it would be read", ("line", "image", "text"), lines))
        shown.append(f"dry run: {submission.accepted} would be accepted, {count} rejected")
        return shown
    batch = plain(submission.batch_id)
    shown.append(f"{submission.accepted} accepted, {count} rejected: batch {batch}")
    shown.append(f"Follow it with: docreco watch {batch}")
    shown.append(f"See it, and correct what is read: {review_url}batches/{batch}")
    if pages:
        shown.append(f"Then see what was found: docreco pages list --batch {batch}")
    return shown
