"""Definitions of the services as child processes: command, settings, readiness."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from infra.local.errors import LocalError, ProgramError
from infra.local.ports import HOST
from infra.local.probes import answers
from infra.local.servers import Home, url_of
from infra.local.settings import child_environment
from infra.local.site import NETWORK, SITE_HOST, site_url
from infra.local.stack import Addresses, addresses_of
from infra.local.supervisor import Program, Supervisor

ROOT = Path(__file__).parents[2]
OWN_PREFIXES = (
    *(
        "OCR_",
        "FETCHER_",
        "CONSUMER_",
        "RECONCILER_",
        "REVIEW_",
        "SEGMENTER_",
        "PROVISIONER_",
        "LOG_",
    ),
)
"""Settings that are inherited from the environment; addresses and ports are not."""


def ocr_api(home: Home, *, has_site: bool) -> Program:
    """Return the OCR API; the servers need not run yet.

    It collects images in the bucket, unless ``OCR_COLLECT=0`` is set.
    """
    port = home.ports.ocr_api_port
    servers = addresses_of(home).environment().items()
    bucket = {name: value for name, value in servers if name.startswith("S3_")}
    own = {**bucket, **_reachable(has_site=has_site), "OCR_HOST": HOST, "OCR_PORT": str(port)}
    own["OCR_COLLECT"] = os.environ.get("OCR_COLLECT", "1")
    return _service("ocr-api", "app.main", home, own, port=port)


def shadow_ocr_api(home: Home) -> Program:
    """Return the OCR API of the candidate model."""
    port = home.ports.shadow_port
    own = {
        "OCR_HOST": HOST,
        "OCR_PORT": str(port),
        "OCR_ENGINE": "rapidocr",
        "OCR_MODEL": home.settings.shadow_model,
        "OCR_COLLECT": "0",
        "OCR_THREADS": "1",
        "OCR_WORKERS": "1",
    }
    return _service("ocr-api-shadow", "app.main", home, own, port=port)


def fetcher(home: Home, addresses: Addresses, *, has_site: bool) -> Program:
    """Return the fetcher, which may reach the sample site on this machine if requested."""
    port = home.ports.fetcher_port
    own = {
        **addresses.environment(),
        **_reachable(has_site=has_site),
        "FETCHER_HOST": HOST,
        "FETCHER_PORT": str(port),
    }
    return _service("fetcher", "services.fetcher.main", home, own, port=port)


def _reachable(*, has_site: bool) -> dict[str, str]:
    """Return the setting that allows the sample site, if it runs."""
    if not has_site:
        return {}
    given = os.environ.get("FETCHER_ALLOWED_PRIVATE_NETWORKS")
    return {"FETCHER_ALLOWED_PRIVATE_NETWORKS": ",".join(filter(None, (given, NETWORK)))}


def consumer(home: Home, addresses: Addresses) -> Program:
    """Return the consumer."""
    port = home.ports.consumer_port
    own = {
        **addresses.environment(),
        "CONSUMER_HOST": HOST,
        "CONSUMER_PORT": str(port),
        "CONSUMER_OCR_URL": url_of(home.ports.ocr_api_port),
        "CONSUMER_SHADOW_URL": url_of(home.ports.shadow_port),
    }
    return _service("consumer", "services.consumer.main", home, own, port=port)


def reconciler(home: Home, addresses: Addresses) -> Program:
    """Return the reconciler; its first pass needs queues and bucket."""
    port = home.ports.reconciler_port
    own = {**addresses.environment(), "RECONCILER_HOST": HOST, "RECONCILER_PORT": str(port)}
    return _service("reconciler", "services.reconciler.main", home, own, port=port)


def segmenter(home: Home, addresses: Addresses) -> Program:
    """Return the segmenter."""
    port = home.ports.segmenter_port
    own = {**addresses.environment(), "SEGMENTER_HOST": HOST, "SEGMENTER_PORT": str(port)}
    return _service("segmenter", "services.segmenter.main", home, own, port=port)


def review(home: Home, addresses: Addresses) -> Program:
    """Return the review page."""
    port = home.ports.review_port
    own = {
        **addresses.environment(),
        "REVIEW_HOST": HOST,
        "REVIEW_PORT": str(port),
        "REVIEW_FETCHER_URL": url_of(home.ports.fetcher_port),
        "REVIEW_FETCHER_TOKEN": os.environ.get("FETCHER_API_TOKEN", ""),
        "REVIEW_PROMETHEUS_URL": url_of(home.ports.prometheus_port),
    }
    return _service("review", "services.review.main", home, own, port=port)


def sample_site(home: Home) -> Program:
    """Return the web site of the sample images, on its own address."""
    port = home.ports.samples_port
    return Program(
        name="sample-site",
        argv=[sys.executable, "-m", "infra.local.site", f"--host={SITE_HOST}", f"--port={port}"],
        env=child_environment(),
        cwd=ROOT,
        log_path=home.log_path("sample-site"),
        is_ready=answers(site_url(port)),
    )


def _service(name: str, module: str, home: Home, own: Mapping[str, str], *, port: int) -> Program:
    return Program(
        name=name,
        argv=[sys.executable, "-m", module],
        env=_environment(own),
        cwd=ROOT,
        log_path=home.log_path(name),
        is_ready=answers(url_of(port, "/readyz")),
        stop_timeout_seconds=30.0,
    )


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    given = {name: value for name, value in os.environ.items() if name.startswith(OWN_PREFIXES)}
    return child_environment({**given, **own})


async def provision(home: Home, addresses: Addresses) -> None:
    """Set up queues, bucket and indexes: the provisioner, run to its end.

    Raises:
        ProgramError: It failed; with the end of its output.
    """
    log_path = home.log_path("provisioner")
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", "--"),
            *(sys.executable, "-m", "services.provisioner.main"),
            env=_environment(addresses.environment()),
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status:
        raise ProgramError("provisioner", f"ended with exit status {status}", log_path)


@asynccontextmanager
async def running(supervisor: Supervisor, programs: Sequence[Program]) -> AsyncIterator[None]:
    """Run programs, started concurrently, during an ``async with`` block.

    Raises:
        NotReadyError: One of them did not start.
    """
    try:
        try:
            async with asyncio.TaskGroup() as group:
                for program in programs:
                    group.create_task(supervisor.start(program))
        except* LocalError as errors:
            raise errors.exceptions[0] from None
        yield
    finally:
        async with asyncio.TaskGroup() as group:
            for program in programs:
                group.create_task(supervisor.stop(program.name))
