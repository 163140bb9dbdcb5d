"""Final report of ``run_local.sh``: predictions, failures, figures and addresses."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial

from pydantic import HttpUrl
from rich.console import Console, RenderableType
from rich.text import Text

from infra.local.ingest import IDS_AT_ONCE, Ingested, document_id, page_id
from infra.local.servers import Home, url_of
from services.cli.output import Cell, Table, cell
from services.cli.rows import ImageRow, image_row, image_table
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.prometheus import (
    Prometheus,
    PrometheusUnavailableError,
    open_prometheus,
)
from services.common.domain.image_filter import ImageFilter
from services.common.domain.pieces import in_pieces
from services.common.domain.texts import number_of
from services.common.runtime.periodic import polled

SHOWN_ROWS = 40
FORBIDDEN = "forbidden_address"
"""The fetcher's code of a non-public address."""
NO_DOCUMENT = "no document"
SCRAPE_LIMIT_SECONDS = 90.0

FIGURES: Mapping[str, tuple[str, str]] = {
    "mean score, last 5 minutes": ("ocr:prediction_score:mean5m", ".3f"),
    "predictions per minute, last minute": ("ocr:predictions:per_minute", ".1f"),
    # The counter itself, as growth over a window is extrapolated and may be off by one
    "low scores, since the OCR API started": ("sum(ocr_low_score_predictions_total)", ".0f"),
}
"""By title: the query (mostly a recording rule) and the format of the value."""
EVALUATED = "timestamp(ocr:predictions:increase5m)"
SCRAPED = "max(timestamp(ocr_prediction_score_count))"
"""Not of ``up``: before its model is loaded, the OCR API answers scrapes without counts.

``timestamp`` gives a sample's time only for a metric name, and the query time for any other
expression.
"""


async def find_rows(images: ImageRepository, ids: Sequence[str]) -> list[ImageRow]:
    """Return the images of these documents, in this order."""
    found: dict[str, ImageRow] = {}
    for some in in_pieces(ids, IDS_AT_ONCE):
        where = ImageFilter(ids=frozenset(some))
        found |= {each.id: image_row(each) async for each in images.find(where)}
    return [found[each] for each in ids if each in found]


def show_outcome(console: Console, ingested: Ingested, rows: Sequence[ImageRow]) -> None:
    """Show the table of predictions, then failures with reasons."""
    read = [row for row in rows if row.status == "predicted"]
    if ingested.is_earlier:
        text = "The bundled samples are those of an earlier start: no batch was added."
        console.print(Text(text))
    title = f"{number_of(len(read), 'image')} read"
    if len(read) > SHOWN_ROWS:
        read = sorted(read, key=lambda row: row.score or 0.0)[:SHOWN_ROWS]
        title += f"; the {SHOWN_ROWS} lowest scores (all of them: docreco images)"
    if read:
        console.print(image_table(title, read, with_origin=False))
    cut = [page for page in ingested.pages if page.current]
    if cut:
        lines = sum(len(page.current) for page in cut)
        text = f"{number_of(lines, 'line')} among them, of {number_of(len(cut), 'page')}: "
        console.print(Text(text + "docreco pages list"))
    failed = _failures(ingested, rows)
    if failed:
        title = f"{len(failed)} not read, each with its reason"
        columns = ("image", "stopped at", "reason", "detail")
        console.print(Table(title, columns, failed, most=SHOWN_ROWS))
    if any(item.code == FORBIDDEN for item in ingested.items):
        console.print(
            "To fetch from a private network, set FETCHER_ALLOWED_PRIVATE_NETWORKS to it, for "
            "instance 192.168.1.0/24, and submit the list again."
        )
    if ingested.missing:
        line = f"{number_of(len(ingested.missing), 'image')} without document: "
        line += "see the consumer's log, and "
        console.print(Text(line + "the queues in RabbitMQ's management.", style="red"))


def _failures(ingested: Ingested, rows: Sequence[ImageRow]) -> list[list[Cell]]:
    found = [(each.value, "list", each.code, each.detail) for each in ingested.submission.rejected]
    found += [
        (item.label, "fetch", item.code or "unknown", item.detail or "")
        for item in ingested.items
        if item.outcome == "failed"
    ]
    found += [
        (
            row.sources[0] if row.sources else row.name or row.image,
            "OCR",
            row.error_code,
            row.error_detail or "",
        )
        for row in rows
        if row.error_code
    ]
    found += [
        (page.name, "page", page.error.code or "unknown", page.error.detail or "")
        for page in ingested.pages
        if page.error is not None
    ]
    found += [
        (item.label, "indexing", NO_DOCUMENT, item.key or "")
        for item in ingested.items
        if item.key and (page_id if item.is_page else document_id)(item.key) in ingested.missing
    ]
    return [[cell(image), cell(at), cell(code, "red"), cell(why)] for image, at, code, why in found]


async def figures(home: Home) -> dict[str, float | None]:
    """Return Prometheus' figures once it has scraped everything until now."""
    async with _prometheus(home) as prometheus:
        if await _wait_newer(prometheus, SCRAPED, time.time()):
            await _wait_newer(prometheus, EVALUATED, time.time())
        return {words: await _value(prometheus, query) for words, (query, _) in FIGURES.items()}


async def wait_scraped(home: Home, *, since: float) -> None:
    """Wait for the first scrape of the OCR API's counts, the baseline of growth."""
    async with _prometheus(home) as prometheus:
        await _wait_newer(prometheus, SCRAPED, since)


def _prometheus(home: Home) -> AbstractAsyncContextManager[Prometheus]:
    return open_prometheus(HttpUrl(url_of(home.ports.prometheus_port)), timeout_seconds=5)


async def _value(prometheus: Prometheus, query: str) -> float | None:
    """Return the value of an expression, or None without value or answer."""
    with suppress(PrometheusUnavailableError):
        for series in await prometheus.query(query):
            return series.value[1]
    return None


async def _wait_newer(prometheus: Prometheus, query: str, than: float) -> bool:
    """Wait until an expression exceeds a time; return False on timeout."""

    def is_newer(value: float | None) -> bool:
        return (value or 0.0) > than

    deadline = asyncio.get_running_loop().time() + SCRAPE_LIMIT_SECONDS
    return is_newer(await polled(partial(_value, prometheus, query), is_newer, deadline=deadline))


def figure_table(values: Mapping[str, float | None]) -> Table:
    """Return Prometheus' figures."""
    rows = [
        [words, "no prediction" if value is None else format(value, FIGURES[words][1])]
        for words, value in values.items()
    ]
    return Table("Prometheus says", ("figure", "value"), rows)


def address_table(home: Home) -> RenderableType:
    """Return the URLs to open, with user and password if any."""
    ports, settings = home.ports, home.settings
    minio = f"{settings.minio_user} / {settings.minio_password.get_secret_value()}"
    rabbitmq = f"{settings.rabbitmq_user} / {settings.rabbitmq_password.get_secret_value()}"
    rows = [
        ("review: overview, batches, correcting", ports.review_port, "", ""),
        ("MinIO console: upload an image to raw", ports.minio_console_port, "", minio),
        ("RabbitMQ management", ports.rabbitmq_management_port, "", rabbitmq),
        ("Prometheus", ports.prometheus_port, "", ""),
        # Not its page, which Debian's package does not have
        ("Alertmanager: alerts as JSON", ports.alertmanager_port, "/api/v2/alerts", ""),
        ("OCR API", ports.ocr_api_port, "/docs", ""),
        ("fetcher: submit a list", ports.fetcher_port, "/docs", ""),
    ]
    shown = [[name, url_of(port, path), user] for name, port, path, user in rows]
    made = Table("Open", ("what", "address", "user / password"), shown).rendered()
    made.columns[1].no_wrap = True  # otherwise terminals would not recognise the URL
    return made
