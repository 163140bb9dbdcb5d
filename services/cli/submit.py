"""``docreco submit``: hand a list of image URLs to the fetcher."""

import sys
from collections.abc import Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BufferedReader, BytesIO, RawIOBase
from pathlib import Path
from typing import IO, Annotated, Any, cast

import typer
from rich.table import Table

from services.cli.errors import CommandError, ExitStatus
from services.cli.fetcher import (
    AS_FOUND,
    FetcherClient,
    ListRequest,
    Preview,
    Submission,
    open_fetcher,
)
from services.cli.output import Output, cell, plain, run, table
from services.cli.reading import reading_for_people
from services.cli.settings import CliSettings
from services.cli.upload import UploadOptions, upload_folder, upload_image
from services.cli.upload_archive import is_archive, upload_archive
from services.cli.upload_parquet import upload_parquet
from services.cli.watch import watch_batch
from services.common.domain.image_formats import PDF_MARK, PDF_REFUSED, sniff
from services.common.domain.tables.list_format import PARQUET_MARK, ListFormat, sniff_format
from services.common.domain.tables.names import is_image

SHOWN_REJECTIONS = 20
_PEEKED_BYTES = 4096
_ENDINGS = {
    ListFormat.TEXT: "txt",
    ListFormat.TABLE: "csv",
    ListFormat.TSV: "tsv",
    ListFormat.JSON_LINES: "jsonl",
    ListFormat.JSON: "json",
    ListFormat.PARQUET: "parquet",
}


def submit(
    source: Annotated[
        str,
        typer.Argument(
            metavar="LIST",
            help="A file (.txt one URL a line; .csv and .tsv with columns url, annotation; .jsonl; "
            ".parquet; each also .gz), the http(s) address of one or of a .zip or .tar(.gz) of "
            "images, - for standard input, or an image, a folder or a .zip, .tar(.gz) or Parquet "
            "file of images here.",
        ),
    ],
    *,
    stdin_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Format of standard input: txt, csv, tsv, jsonl or parquet. By default as its "
            "first line looks.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the batch, for people.")] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(help="The same key and list again gives the same batch, not a second one."),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Encoding of a list's text, such as windows-1250.")
    ] = None,
    url_column: Annotated[
        str | None, typer.Option(help="Name of the column of URLs; by default found.")
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(help="Name of the column of texts; by default found.")
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Take all as it stands, or nothing."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show how it would be taken.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until the batch is done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Hand a list of image URLs to the fetcher; show what it accepted and what it rejected.

    Images that are here, whether a file, or in a folder, an archive or a Parquet file, go straight
    into the bucket: there is no batch to watch.
    """
    output = Output(as_json=as_json)

    async def work() -> ExitStatus:
        options = UploadOptions(strict=strict, dry_run=dry_run)
        request = ListRequest(encoding, url_column, text_column, strict=strict, dry_run=dry_run)
        upload = _find_upload(source, output, options, request)
        if upload is not None and (status := await upload) is not None:
            return status
        settings = CliSettings()
        async with open_fetcher(settings) as fetcher:
            submission = await send(
                fetcher,
                source,
                request,
                stdin_format=stdin_format,
                name=name,
                idempotency_key=idempotency_key,
            )
            if watch and not dry_run:
                every_seconds = settings.poll_seconds
                return await _watch(fetcher, submission, output, every_seconds=every_seconds)
        output.answer(submission.model_dump(exclude_unset=True), *_for_people(submission))
        return ExitStatus.OK if dry_run else _status(submission, ExitStatus.OK)

    run(output, work)


def _find_upload(
    source: str,
    output: Output,
    options: UploadOptions,
    request: ListRequest,
) -> Coroutine[Any, Any, ExitStatus | None] | None:
    """Return what puts images that are on this machine into the bucket; None: it is a list.

    Raises:
        CommandError: It is a PDF, or can't be read; or how to read it is said of what has no such
            choice.
    """
    path = Path(source)
    upload = upload_folder if path.is_dir() else upload_archive if is_archive(source) else None
    if upload is not None:
        if request.encoding or request.url_column or request.text_column:
            raise CommandError(
                f"{source}: columns and encoding can be named for a list alone",
                status=ExitStatus.REFUSED,
                hint="Rename the columns of its table to file_name and text, and save it as UTF-8.",
            )
        return upload(path, output, options)
    if not path.is_file():
        return None
    with _opened(source) as file:
        start = file.read(_PEEKED_BYTES)
    if start.startswith(PDF_MARK):
        raise CommandError(
            f"{source}: {PDF_REFUSED}",
            status=ExitStatus.REFUSED,
            hint="For example: pdftoppm -r 300 -png FILE.pdf page",
        )
    if is_image(source) or sniff(start) is not None:
        return upload_image(path, output, options)
    if start.startswith(PARQUET_MARK) and request.url_column is None:
        return upload_parquet(path, request.text_column, output, options)
    return None


async def _watch(
    fetcher: FetcherClient, submission: Submission, output: Output, *, every_seconds: float
) -> ExitStatus:
    """Show what was accepted, and follow it to its end."""
    if not output.as_json:
        output.answer({}, *_for_people(submission))
    status = await watch_batch(
        fetcher,
        submission.batch_id,
        output,
        every_seconds=every_seconds,
        also={"submission": submission.model_dump(exclude_unset=True)},
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
    name: str | None = None,
    idempotency_key: str | None = None,
) -> Submission:
    """Send a list, wherever it is.

    Args:
        fetcher: Its client.
        source: Path of a file, ``-``, or an http(s) address that the fetcher gets by itself.
        request: How it is to be read; with ``dry_run`` the answer is a Preview.
        stdin_format: Ending of a file that holds the same as standard input; None: as it looks.
        name: Name of the batch.
        idempotency_key: See the fetcher's API.

    Raises:
        CommandError: There is no such file, or the fetcher does not answer, or refuses.
    """
    if source.startswith(("http://", "https://")):
        return await fetcher.submit_url(
            source, request=request, name=name, idempotency_key=idempotency_key
        )
    with _opened(source) as content:
        if source == "-":
            file_name = f"stdin.{stdin_format or _ending_of(content)}"
        else:
            file_name = Path(source).name
        return await fetcher.submit_file(
            content,
            file_name=file_name,
            request=request,
            name=name,
            idempotency_key=idempotency_key,
        )


def _ending_of(content: IO[bytes]) -> str:
    """Return the ending of a file that begins like this one, of which nothing is taken."""
    start = cast("BufferedReader", content).peek(_PEEKED_BYTES)
    return _ENDINGS[sniff_format(BytesIO(start))]


@contextmanager
def _standard_input() -> Iterator[IO[bytes]]:
    content = BufferedReader(cast("RawIOBase", sys.stdin.buffer))
    try:
        yield content
    finally:
        with suppress(ValueError):  # closed: aiohttp closes, in a thread, what it has sent
            content.detach()


def _opened(source: str) -> AbstractContextManager[IO[bytes]]:
    if source == "-":
        return _standard_input()
    try:
        return Path(source).open("rb")
    except OSError as error:
        raise CommandError(
            f"{source}: {error.strerror}",
            status=ExitStatus.REFUSED,
            hint="Give a list's path or http(s) address, - for standard input, or a folder.",
        ) from error


def _for_people(submission: Submission) -> list[Table | str]:
    rejected, count = submission.rejected, submission.rejected_count
    shown: list[Table | str] = []
    if rejected:
        rows = [
            [
                cell("" if each.line is None else each.line),
                cell(each.value),
                cell(each.code, "red"),
                cell(each.detail),
            ]
            for each in rejected[:SHOWN_REJECTIONS]
        ]
        title = f"{count} rejected"
        if count > SHOWN_REJECTIONS:
            title += f", the first {SHOWN_REJECTIONS}"
        shown.append(table(title, ("line", "value", "code", "detail"), rows))
    shown += reading_for_people(submission.reading)
    if isinstance(submission, Preview):
        lines = [
            [cell(row.line), cell(row.url), cell(row.annotation or "")] for row in submission.rows
        ]
        shown.insert(0, table("as it would be taken", ("line", "url", "text"), lines))
        shown.append(f"nothing was kept: {submission.accepted} would be accepted, {count} rejected")
        return shown
    batch = plain(submission.batch_id)
    shown.append(f"{submission.accepted} accepted, {count} rejected: batch {batch}")
    shown.append(f"Follow it with: docreco watch {batch}")
    return shown
