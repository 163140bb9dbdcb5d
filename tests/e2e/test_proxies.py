"""Commands on a machine whose environment names a proxy for everything."""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from infra.local.settings import child_environment
from tests.support.images import line_image
from tests.support.pipeline import Client, Pipeline
from tests.support.waiting import deadline

PROXY_THAT_DOES_NOT_ANSWER = "http://127.0.0.1:9"
PROXIES = dict.fromkeys(
    ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"),
    PROXY_THAT_DOES_NOT_ANSWER,
)


@pytest.fixture
def environment(pipeline: Pipeline) -> dict[str, str]:
    """Settings of the pipeline's commands, and the proxies."""
    own = {
        **pipeline.addresses.environment(),
        "DOCRECO_FETCHER_URL": pipeline.fetcher_url,
        "DOCRECO_OCR_URL": pipeline.ocr_url,
        "DOCRECO_CONSUMER_URL": pipeline.consumer_url,
    }
    return child_environment(own | PROXIES)


async def docreco(environment: Mapping[str, str], *arguments: str, status: int | None = 0) -> Any:
    """Run a command; return what it says as JSON."""
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("docreco")), *arguments, "--json"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with deadline():
        output, errors = await process.communicate()
    assert status is None or process.returncode == status, errors.decode() + output.decode()
    return json.loads(output)


async def test_commands_reach_the_servers_directly(
    environment: dict[str, str], client: Client, tmp_path: Path
) -> None:
    scans, exported = tmp_path / "scans", tmp_path / "exported"
    scans.mkdir()
    (scans / "a.png").write_bytes(line_image(f"direct {uuid4().hex[:6]}"))

    submitted = await docreco(environment, "submit", str(scans), "--watch")
    [item] = await client.items(submitted["batch"]["batch_id"])
    document = await client.document({"key": item["key"], "status": "predicted"})
    await docreco(
        environment, "export", "--format", "trocr", "--min-agreement", "0", "--out", str(exported)
    )
    await docreco(environment, "reconcile", "--dry-run")
    found = await docreco(environment, "doctor", status=None)  # Prometheus does not run here

    [source] = document["sources"]
    assert (source["kind"], source["collection"], source["name"]) == ("folder", "scans", "a.png")
    assert any(path.is_file() for path in exported.rglob("*.png"))
    states = {each["name"]: each["health"] for each in found["addresses"]}
    assert {states[name] for name in ("MinIO", "RabbitMQ", "MongoDB", "fetcher")} == {"ok"}
