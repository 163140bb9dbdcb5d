"""``docreco doctor``: what is installed, what answers, and what mends the rest."""

import asyncio
import json
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any

import aiohttp
import typer
from aiohttp import ClientSession, ClientTimeout
from pydantic import HttpUrl
from rich.text import Text

from infra.local.install import SERVERS
from services.cli.backlog import backlog_table, backlogs
from services.cli.errors import ExitStatus, address_of, reason_of
from services.cli.output import Output, cell, run, table
from services.cli.settings import CliSettings
from services.common.adapters.mongo import open_index
from services.common.adapters.object_store import open_object_store
from services.common.adapters.rabbitmq.messaging import check_broker
from services.common.domain.errors import PipelineError
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from services.provisioner.settings import RabbitmqManagementSettings

LEAST_PYTHON = (3, 11)
TIMEOUT_SECONDS = 5.0
RUN = "./run_local.sh"


class Health(StrEnum):
    """What was found of one thing."""

    OK = "ok"
    MISSING = "missing"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Finding:
    """What was found of one program or address."""

    name: str
    health: Health
    where: str
    """Path, or address without password."""
    is_needed: bool
    detail: str = ""
    mend: str = ""
    """The command that mends it."""


class NotWellError(Exception):
    """A service answers, and says that it is not well."""


def doctor(
    *, as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False
) -> None:
    """Look at every program and address; exit status 1 when one that is needed is not there."""
    output = Output(as_json=as_json)

    async def work() -> ExitStatus:
        installed = await programs()
        settings = CliSettings()
        answering = await addresses(settings)
        waiting = await backlogs(
            S3Settings(),
            RabbitmqManagementSettings(),
            settings.prometheus_url,
            timeout_seconds=TIMEOUT_SECONDS,
        )
        found = [*installed, *answering]
        bad = [each for each in found if each.is_needed and each.health is not Health.OK]
        output.answer(
            {
                "is_well": not bad,
                "programs": [asdict(each) for each in installed],
                "addresses": [asdict(each) for each in answering],
                "backlogs": [asdict(each) for each in waiting],
            },
            _table("Programs", "path", installed),
            _table("Addresses", "address", answering),
            backlog_table(waiting),
            *_advice(found),
        )
        return ExitStatus.INCOMPLETE if bad else ExitStatus.OK

    run(output, work)


async def programs() -> list[Finding]:
    """Look for what ./run_local.sh runs; where Docker answers, none of the servers is needed."""
    docker = await _docker()
    found = [_python(), _program("poetry", shutil.which("poetry"), RUN, is_needed=False)]
    for server in SERVERS:
        path = server.locate()
        is_needed = docker.health is not Health.OK and server.name != "Alertmanager"
        found.append(_program(server.name, path, server.command, is_needed=is_needed))
    return [*found, docker]


async def _docker() -> Finding:
    """Look for Docker, and for an engine that answers it."""
    path = shutil.which("docker")
    if path is None:
        return Finding("docker", Health.MISSING, "", is_needed=False)
    process = await asyncio.create_subprocess_exec(
        path, "version", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            answers = await process.wait() == 0
    except TimeoutError:
        process.kill()
        await process.wait()
        answers = False
    health, detail = (Health.OK, "") if answers else (Health.UNREACHABLE, "no engine answers")
    return Finding("docker", health, path, is_needed=False, detail=detail)


def _python() -> Finding:
    is_new_enough = sys.version_info[:2] >= LEAST_PYTHON
    return Finding(
        "python",
        Health.OK if is_new_enough else Health.MISSING,
        sys.executable,
        is_needed=True,
        detail=sys.version.split()[0],
        mend="" if is_new_enough else "sudo apt-get install python3.11",
    )


def _program(name: str, path: object, mend: str, *, is_needed: bool = False) -> Finding:
    if path:
        return Finding(name, Health.OK, str(path), is_needed)
    return Finding(name, Health.MISSING, "", is_needed, mend=mend)


async def addresses(settings: CliSettings) -> list[Finding]:
    """Ask every service and server, all at once."""
    s3, amqp = S3Settings(), AmqpSettings()
    # Its own limit ends first: its error says more
    mongo = MongoSettings().model_copy(update={"timeout_seconds": TIMEOUT_SECONDS / 2})

    async def store() -> None:
        async with open_object_store(s3) as opened:
            await opened.check()

    async def index() -> None:
        async with open_index(mongo) as opened:
            await opened.check()

    async with ClientSession(timeout=ClientTimeout(total=TIMEOUT_SECONDS)) as session:
        services = (
            ("OCR API", settings.ocr_url, "DOCRECO_OCR_URL", "readyz"),
            ("fetcher", settings.fetcher_url, "DOCRECO_FETCHER_URL", "readyz"),
            ("consumer", settings.consumer_url, "DOCRECO_CONSUMER_URL", "readyz"),
            ("Prometheus", settings.prometheus_url, "DOCRECO_PROMETHEUS_URL", "-/ready"),
        )
        return await asyncio.gather(
            *(
                _address(name, url, setting, _http(session, url, path))
                for name, url, setting, path in services
            ),
            _address("MinIO", s3.endpoint_url, "S3_ENDPOINT_URL", store),
            _address("RabbitMQ", amqp.url, "AMQP_URL", lambda: check_broker(amqp)),
            _address("MongoDB", mongo.url, "MONGO_URL", index),
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
    """Return which checks of a ``/readyz`` fail; nothing where it is another answer."""
    try:
        answer = json.loads(body)
    except ValueError:
        return ""
    checks = answer.get("checks") if isinstance(answer, dict) else None
    if not isinstance(checks, dict):
        return ""
    return "".join(f"; {name}: {said}" for name, said in checks.items() if said != "ok")


async def _address(
    name: str, url: object, setting: str, check: Callable[[], Awaitable[None]]
) -> Finding:
    where = address_of(url)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await check()
    except (PipelineError, aiohttp.ClientError, NotWellError, OSError, ValueError) as error:
        detail = reason_of(error)
    else:
        return Finding(name, Health.OK, where, is_needed=True)
    mend = f"{RUN}, or set {setting}"
    return Finding(name, Health.UNREACHABLE, where, is_needed=True, detail=detail, mend=mend)


def _table(title: str, where: str, found: Sequence[Finding]) -> Any:
    rows = []
    for each in found:
        is_bad = each.health is not Health.OK
        style = "green" if not is_bad else "red" if each.is_needed else "yellow"
        said = each.health.value if each.is_needed or not is_bad else f"{each.health} (optional)"
        rows.append([Text(each.name), Text(said, style=style), cell(each.where), cell(each.detail)])
    return table(title, ("name", "state", where, "detail"), rows)


def _advice(found: Sequence[Finding]) -> list[Text]:
    """Return what mends each thing that is needed, or that all is well."""
    bad = [each for each in found if each.is_needed and each.health is not Health.OK]
    if not bad:
        return [Text("All that is needed is there.", style="green")]
    return [Text(f"{each.name}: {each.mend}") for each in bad]
