"""``docreco doctor``: check services and servers, and suggest fixes."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

import aiohttp
from aiohttp import ClientSession, ClientTimeout
from pydantic import HttpUrl
from rich.text import Text

from services.cli.backlog import backlog_table, backlogs
from services.cli.errors import REFUSED, ExitStatus, address_of, reason_of
from services.cli.options import tabular
from services.cli.output import Output, Table, cell
from services.cli.settings import CliSettings
from services.common.adapters.mongo import open_database
from services.common.adapters.object_store import open_object_store
from services.common.adapters.prometheus import Prometheus, PrometheusUnavailableError
from services.common.adapters.rabbitmq.messaging import check_broker
from services.common.domain.errors import PipelineError
from services.common.runtime.settings import (
    AmqpSettings,
    MongoSettings,
    RabbitmqManagementSettings,
    S3Settings,
)

TIMEOUT_SECONDS = 5.0
RUN = "./run_local.sh or docker compose up -d"
UNPUBLISHED = ("consumer", "reconciler", "segmenter")
"""Services that have no port on this machine where they run in containers; jobs of Prometheus."""


class Health(StrEnum):
    """State of one component."""

    OK = "ok"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class CheckResult:
    """State of one service or server."""

    name: str
    health: Health
    where: str
    """Address without password."""
    detail: str = ""
    mend: str = ""
    """The command that fixes it."""


class NotWellError(Exception):
    """A service answers, but is not ready."""


@tabular
async def doctor(*, output: Output) -> ExitStatus:
    """Check every service and server; exit status 1 if one does not answer or is not ready."""
    settings = CliSettings()
    answering = await addresses(settings)
    waiting = await backlogs(
        S3Settings(),
        RabbitmqManagementSettings(),
        settings.prometheus_url,
        timeout_seconds=TIMEOUT_SECONDS,
    )
    bad = [each for each in answering if each.health is not Health.OK]
    output.print(
        {
            "is_well": not bad,
            "addresses": [asdict(each) for each in answering],
            "backlogs": [asdict(each) for each in waiting],
        },
        _table(answering),
        backlog_table(waiting),
        *_advice(bad),
    )
    return ExitStatus.INCOMPLETE if bad else ExitStatus.OK


async def addresses(settings: CliSettings) -> list[CheckResult]:
    """Check every service and server concurrently."""
    s3, amqp = S3Settings(), AmqpSettings()
    # Its own timeout is shorter, with a better error
    mongo = MongoSettings().model_copy(update={"timeout_seconds": TIMEOUT_SECONDS / 2})

    async def store() -> None:
        async with open_object_store(s3) as opened:
            await opened.check()

    async def database() -> None:
        async with open_database(mongo) as opened:
            await opened.check()

    async with ClientSession(timeout=ClientTimeout(total=TIMEOUT_SECONDS)) as session:
        services = (
            ("OCR API", settings.ocr_url, "DOCRECO_OCR_URL", "readyz"),
            ("fetcher", settings.fetcher_url, "DOCRECO_FETCHER_URL", "readyz"),
            ("consumer", settings.consumer_url, "DOCRECO_CONSUMER_URL", "readyz"),
            ("review page", settings.review_url, "DOCRECO_REVIEW_URL", "readyz"),
            ("reconciler", settings.reconciler_url, "DOCRECO_RECONCILER_URL", "readyz"),
            ("segmenter", settings.segmenter_url, "DOCRECO_SEGMENTER_URL", "readyz"),
            ("Prometheus", settings.prometheus_url, "DOCRECO_PROMETHEUS_URL", "-/ready"),
        )
        prometheus = Prometheus(session, settings.prometheus_url)

        async def reached(name: str) -> str:
            return await _reached(prometheus, name) if name in UNPUBLISHED else ""

        return await asyncio.gather(
            *(
                _address(name, url, setting, _http(session, url, path), reached=reached)
                for name, url, setting, path in services
            ),
            _address("MinIO", s3.endpoint_url, "S3_ENDPOINT_URL", store),
            _address("RabbitMQ", amqp.url, "AMQP_URL", lambda: check_broker(amqp)),
            _address("MongoDB", mongo.url, "MONGO_URL", database),
        )


def _http(session: ClientSession, url: HttpUrl, path: str) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        async with session.get(f"{str(url).rstrip('/')}/{path}") as response:
            if response.ok:
                return
            reasons = _failing(await response.text())
            raise NotWellError(f"answers {response.status}{reasons}")

    return check


def _failing(body: str) -> str:
    """Return the failed checks of a ``/readyz`` response; empty for other responses."""
    try:
        answer = json.loads(body)
    except ValueError:
        return ""
    checks = answer.get("checks") if isinstance(answer, dict) else None
    if not isinstance(checks, dict):
        return ""
    return "".join(f"; {name}: {said}" for name, said in checks.items() if said != "ok")


async def _reached(prometheus: Prometheus, name: str) -> str:
    """Say that Prometheus reaches all containers of a service; empty if not, or it has none."""
    try:
        series = await prometheus.query(f'up{{job="{name}"}}')
    except PrometheusUnavailableError:
        return ""
    if not series or not all(each.value[1] == 1 for each in series):
        return ""
    return f"no port here; Prometheus reaches {len(series)} of {len(series)}, readiness unknown"


async def _address(
    name: str,
    url: object,
    setting: str,
    check: Callable[[], Awaitable[None]],
    *,
    reached: Callable[[str], Awaitable[str]] | None = None,
) -> CheckResult:
    where = address_of(url)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await check()
    except NotWellError as error:
        detail = str(error)
    except (PipelineError, aiohttp.ClientError, OSError, ValueError) as error:
        detail = reason_of(error)
        if reached and detail == REFUSED and (elsewhere := await reached(name)):
            return CheckResult(name, Health.OK, where, elsewhere)
    else:
        return CheckResult(name, Health.OK, where)
    mend = f"{RUN}, or set {setting}"
    return CheckResult(name, Health.UNREACHABLE, where, detail, mend)


def _table(found: Sequence[CheckResult]) -> Table:
    rows = []
    for each in found:
        state = cell(each.health.value, "green" if each.health is Health.OK else "red")
        rows.append([cell(each.name), state, cell(each.where), cell(each.detail)])
    return Table("Addresses", ("name", "state", "address", "detail"), rows)


def _advice(bad: Sequence[CheckResult]) -> list[Text]:
    if not bad:
        return [Text("Every service and server answers.", style="green")]
    return [Text(f"{each.name}: {each.mend}") for each in bad]
