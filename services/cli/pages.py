"""``docreco pages``: list pages and their results, segment them again, measure the segmenter."""

from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Literal

import typer

from app.settings import EngineName
from services.cli.errors import EXIT_STATUSES, CommandError, ExitStatus
from services.cli.options import tabular
from services.cli.output import Output, Table, cell
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import open_database
from services.common.adapters.object_store import ObjectStore, open_object_store, sibling
from services.common.adapters.page_repository import PageFilter, PageRepository, read_lines
from services.common.adapters.rabbitmq.messaging import Publisher, open_publisher
from services.common.adapters.rabbitmq.retry_policy import PAGE_QUEUES
from services.common.adapters.synthetic_events import queue_page
from services.common.domain.image import ImageDocument
from services.common.domain.page import Line
from services.common.domain.page_document import PageDocument, PageStatus
from services.common.domain.page_request import PageRequest
from services.common.domain.texts import number_of
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings

app = typer.Typer(no_args_is_help=True, help="Show pages and their lines, or segment them again.")


@app.command("list", epilog=EXIT_STATUSES)
@tabular
async def list_pages(
    *,
    status: Annotated[PageStatus | None, typer.Option(help="Only these.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only those of this batch.")] = None,
    document: Annotated[
        str | None, typer.Option(help="Only the pages of the PDF or TIFF with this key.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Limit of pages.")] = 20,
    output: Output,
) -> None:
    """List pages with the number of their lines, newest first."""
    where = PageFilter(status=status, batch=batch, document=document)
    async with open_database(MongoSettings()) as database:
        pages = PageRepository(database.pages)
        order = (("indexed_at", -1), ("_id", 1))
        found = [page async for page in pages.find(where, sort=order, limit=limit)]
    rows = [
        [cell(page.key), cell(page.status), cell(_extent(page)), cell(_origin(page))]
        for page in found
    ]
    columns = ("page", "status", "found", "source")
    shown = Table(f"{number_of(len(found), 'page')}, newest first", columns, rows, empty="No page.")
    output.print([_summary(page) for page in found], shown)


@app.command("show", epilog=EXIT_STATUSES)
@tabular
async def show(
    key: Annotated[str, typer.Argument(help="Id as shown by list.")], *, output: Output
) -> None:
    """Show the lines of one page in reading order, with their predictions."""
    s3 = S3Settings()
    async with open_database(MongoSettings()) as database:
        page = await PageRepository(database.pages).get(_id_of(key))
        if page is None:
            raise CommandError(f"no page {key}", status=ExitStatus.REFUSED)
        read = [
            (each.line, each.image)
            for each in await read_lines(page, ImageRepository(database.images), s3.bucket)
        ]
    answer = {
        **_summary(page),
        "lines_found": len(read),
        "lines": [_line(line, image) for line, image in read],
    }
    columns = ("line", "score", "prediction", "annotation", "image")
    rows = [_row(line, image) for line, image in read]
    extent = f"{number_of(len(read), 'line')}" if page.ground_truth else _extent(page)
    output.print(answer, Table(f"{page.key}: {extent}", columns, rows))


@app.command("segment", epilog=EXIT_STATUSES)
@tabular
async def segment(
    key: Annotated[str | None, typer.Argument(help="Only this page, id as shown by list.")] = None,
    *,
    status: Annotated[PageStatus | None, typer.Option(help="Only these.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only those of this batch.")] = None,
    document: Annotated[
        str | None, typer.Option(help="Only the pages of the PDF or TIFF with this key.")
    ] = None,
    turn: Annotated[
        Literal["0", "90", "180", "270"] | None,
        typer.Option(help="Turn them first, by degrees clockwise from the stored page."),
    ] = None,
    output: Output,
) -> ExitStatus:
    """Segment pages again by the version of the segmenter that runs now.

    Lines that are found again stay, and annotated ones and those that people cut in any case.
    """
    where = PageFilter(status=status, batch=batch, document=document)
    request = PageRequest.model_validate(
        {"turn": turn and int(turn), "at": turn and datetime.now(tz=UTC)}
    )
    s3 = S3Settings()
    async with (
        open_object_store(s3) as store,
        open_database(MongoSettings()) as database,
        open_publisher(AmqpSettings()) as publisher,
    ):
        pages, bucket = PageRepository(database.pages), sibling(store, s3.pages_bucket)
        if key is None:
            found = [page async for page in pages.find(where)]
        else:
            found = [await pages.load(_id_of(key))]
        queued = sum([await _queue(page, bucket, publisher, request) for page in found])
    output.print({"queued": queued}, f"{number_of(queued, 'page')} queued")
    return ExitStatus.OK if queued else ExitStatus.REFUSED


@app.command("evaluate", epilog=EXIT_STATUSES)
@tabular
async def evaluate(
    key: Annotated[str | None, typer.Argument(help="Only this page, id as shown by list.")] = None,
    *,
    batch: Annotated[str | None, typer.Option(help="Only those of this batch.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Limit of pages.")] = 100,
    engine: Annotated[EngineName, typer.Option(help="Which reads the lines.")] = "rapidocr",
    read: Annotated[
        bool, typer.Option("--read/--no-read", help="Whether to measure error rates as well.")
    ] = True,
    output: Output,
) -> ExitStatus:
    """Compare the lines that the segmenter finds with those of transcribed pages.

    Nothing is stored.
    """
    # Imported here, as detector and engines load their runtimes
    from services.cli.engine_reader import load  # noqa: PLC0415
    from services.cli.page_evaluation import Evaluator  # noqa: PLC0415

    s3 = S3Settings()
    async with open_object_store(s3) as store, open_database(MongoSettings()) as database:
        repository, images = PageRepository(database.pages), ImageRepository(database.images)
        pages = await _transcribed(repository, key, batch, limit)
        lines_of = partial(read_lines, images=images, bucket=s3.bucket)
        loaded = await load(engine) if read else None
        evaluator = Evaluator(sibling(store, s3.pages_bucket), lines_of, loaded)
        evaluated = await evaluator.evaluate(pages, output.stderr)
    output.print(evaluated.document(), *evaluated.tables())
    return ExitStatus.INCOMPLETE if evaluated.unread else ExitStatus.OK


async def _transcribed(
    pages: PageRepository, key: str | None, batch: str | None, limit: int
) -> list[PageDocument]:
    """Return pages that came with a transcription, newest first.

    Raises:
        CommandError: There is none.
    """
    if key is None:
        where = PageFilter(batch=batch, is_stored=True, is_transcribed=True)
        order = (("indexed_at", -1), ("_id", 1))
        known = [page async for page in pages.find(where, sort=order, limit=limit)]
    else:
        known = [await pages.load(_id_of(key))]
    if found := [page for page in known if page.ground_truth is not None]:
        return found
    raise CommandError(
        f"{key or 'no page'} has {'no' if key else 'a'} transcription",
        status=ExitStatus.REFUSED,
        hint="docreco submit ARCHIVE takes pages with PAGE XML or ALTO beside them.",
    )


def _id_of(key: str) -> str:
    """Return the id of a page, given with or without its bucket."""
    bucket = S3Settings().pages_bucket
    return f"{bucket}/{key.removeprefix(f'{bucket}/')}"


async def _queue(
    page: PageDocument, store: ObjectStore, publisher: Publisher, request: PageRequest
) -> bool:
    """Queue a page that the segmenter cuts; return False for any other."""
    if not page.exists or not page.is_detected:
        return False
    jobs = PAGE_QUEUES.work
    return await queue_page(
        page, request, store=store, publisher=publisher, queue=jobs, origin="segment"
    )


def _extent(page: PageDocument) -> str:
    """Format the result of a page."""
    if page.error is not None:
        return f"{page.error.code}: {page.error.detail}"
    if page.rendered is not None:
        part = f"{page.rendered_so_far} of " if page.unrendered else ""
        return f"{part}{number_of(page.rendered, 'page')}"
    if page.ground_truth is not None:
        return f"transcribed ({page.ground_truth.kind})"
    return f"{number_of(len(page.current), 'line')}"


def _origin(page: PageDocument) -> str:
    if page.document is not None:
        return f"page {page.document.number} of {page.document.of} of {page.document.key}"
    return ", ".join(source.origin for source in page.sources[:1])


def _summary(page: PageDocument) -> dict[str, Any]:
    shown = {"key", "status", "width", "height", "group", "document", "rendered", "error", "runs"}
    shown |= {"unrendered", "ground_truth", "turn", "text_layer"}
    kept = page.model_dump(include=shown | {"sources", "sha256", "indexed_at"}, exclude_unset=True)
    return {"page": page.id, **kept, "lines_found": len(page.current)}


def _line(line: Line, image: ImageDocument | None) -> dict[str, Any]:
    known = image or ImageDocument.absent("")
    return {
        **line.model_dump(exclude_none=True),
        "prediction": known.prediction and known.prediction.to_mongo(),
        "annotation": known.annotation and known.annotation.to_mongo(),
    }


def _row(line: Line, image: ImageDocument | None) -> list[Any]:
    known = image or ImageDocument.absent("")
    drawn = (f"cut by {line.by}",) if line.by else ()
    state = (*line.marks, *drawn, *(() if line.state == "current" else (line.state,)))
    return [
        cell(" ".join((str(line.order + 1), *state))),
        cell(known.prediction and known.prediction.score, form=".2f"),
        cell(known.prediction and known.prediction.text),
        cell(known.annotation and known.annotation.text),
        cell(line.key),
    ]
