"""The compose file, built and run: it needs a Docker engine and minutes, so it is asked for.

    DOCKER_TESTS=1 ./run_tests.sh tests/e2e/test_compose_stack.py

Only a handful of requests: containers share the processors with whatever else runs there.
"""

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from hashlib import sha256
from http import HTTPStatus
from ipaddress import IPv4Network
from typing import Any

import pytest
from aiohttp import ClientSession, FormData
from motor.motor_asyncio import AsyncIOMotorClient
from pydantic import HttpUrl, SecretStr

from infra.local.site import FOLDER, LIST_NAME, absolute_list
from services.common.adapters.object_store import open_object_store
from services.common.runtime.settings import S3Settings
from tests.support.compose import Stack, built_stack
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("DOCKER_TESTS") != "1",
        reason="builds images and starts containers for minutes: set DOCKER_TESTS=1",
    ),
]

SAMPLES = "10.213.80.80"
EGRESS = IPv4Network("10.213.80.0/24")
"""EGRESS_SUBNET: of the only network that is translated to the host's address."""
FETCHED = {"key": {"$regex": "^fetched/"}}
STORED, FAILED, READ = 18, 2, 17
"""Of the bundled samples; one is corrupt, which only decoding shows."""
REACH = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with built_stack(f"{SAMPLES}/32") as running:
        yield running


@pytest.fixture
async def documents(stack: Stack) -> AsyncIterator[Any]:
    url = f"mongodb://127.0.0.1:{stack.environment['MONGO_PORT']}/?directConnection=true"
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(url)
    yield client.docreco.images
    client.close()


async def submit(stack: Stack) -> dict[str, int]:
    """Submit the samples and return the counts of their batch once it is complete."""
    body = absolute_list((FOLDER / LIST_NAME).read_text(), f"http://{SAMPLES}:8090/")
    url = stack.url("FETCHER_PORT")
    async with ClientSession(raise_for_status=True) as session:
        async with session.post(
            f"{url}/batches", data=body.encode(), headers={"Content-Type": "text/csv"}
        ) as response:
            batch_id = (await response.json())["batch_id"]

        async def completed() -> dict[str, int] | None:
            async with session.get(f"{url}/batches/{batch_id}") as response:
                batch = await response.json()
                return batch["counts"] if batch["state"] == "completed" else None

        return await eventually(completed)


async def test_list_is_read_despite_a_restart_and_more_replicas(
    stack: Stack, documents: Any
) -> None:
    counts = await submit(stack)
    assert (counts["stored"], counts["failed"]) == (STORED, FAILED)

    async def all_indexed() -> bool:
        return bool(await documents.count_documents(FETCHED) == STORED)

    await eventually(all_indexed)
    assert await documents.count_documents(FETCHED | {"status": "predicted"}) == READ
    annotated = documents.find(FETCHED | {"status": "predicted"})
    read = {each["annotation"]["text"] async for each in annotated}
    assert "Wikipedia" in read
    wikipedia = await documents.find_one(FETCHED | {"annotation.text": "Wikipedia"})
    assert wikipedia["prediction"]["text"] == "Wikipedia"
    assert wikipedia["sources"][0]["url"] == f"http://{SAMPLES}:8090/mot-wikipedia.png"

    stack.run("restart")
    stack.run("up", "--detach", "--wait")
    assert await documents.count_documents(FETCHED | {"status": "predicted"}) == READ
    settings = S3Settings(
        endpoint_url=HttpUrl(stack.url("MINIO_PORT")),
        access_key_id="consumer",
        secret_access_key=SecretStr("consumer-local"),
    )
    async with open_object_store(settings) as store:  # the key that encrypts it is still there
        stored = await store.read(wikipedia["key"], max_bytes=10**6)
    assert stored.content == (FOLDER / "mot-wikipedia.png").read_bytes()

    stack.run("up", "--detach", "--wait", "--scale", "consumer=3", "--scale", "fetcher=2")
    assert (stack.running("consumer"), stack.running("fetcher")) == (3, 2)
    counts = await submit(stack)
    assert (counts["unchanged"], counts["failed"]) == (STORED, FAILED)
    assert await documents.count_documents(FETCHED) == STORED


async def ask(stack: Stack, asked: str, *, token: str | None = None) -> int:
    """Ask the OCR API to read an image, and return the status of its answer.

    Args:
        stack: Where it runs; the gateway may still look for a replica.
        asked: Address of the image, or name of a sample that is sent.
        token: Of the API.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"{stack.url('OCR_API_PORT')}/predict"

    async def status() -> int | None:
        body: dict[str, Any] = {"json": {"url": asked}}
        if not asked.startswith("http"):
            body = {"data": FormData()}
            body["data"].add_field("file", (FOLDER / asked).read_bytes(), filename=asked)
        async with session.post(url, **body) as response:
            return response.status if response.status != HTTPStatus.SERVICE_UNAVAILABLE else None

    async with ClientSession(headers=headers) as session:
        return await eventually(status)


async def predicted(documents: Any, name: str) -> dict[str, Any]:
    """Wait for the document of a sample that the OCR API was sent."""
    digest = sha256((FOLDER / name).read_bytes()).hexdigest()
    wanted = {"key": {"$regex": f"^api/{digest}[.]"}, "status": "predicted"}
    document: dict[str, Any] = await eventually(lambda: documents.find_one(wanted))
    return document


async def test_images_that_the_api_is_asked_about_become_documents(
    stack: Stack, documents: Any
) -> None:
    url = f"http://{SAMPLES}:8090/train.png"

    assert await ask(stack, "quick-fox.png") == 200
    assert await ask(stack, url) == 200

    assert (await predicted(documents, "quick-fox.png"))["prediction"]["text"]
    assert (await predicted(documents, "train.png"))["sources"][0]["url"] == url


async def test_token_of_env_is_wanted_and_the_consumer_has_it(stack: Stack, documents: Any) -> None:
    token = "only-for-this-test"
    protected = replace(stack, environment={**stack.environment, "OCR_API_TOKEN": token})
    protected.run("up", "--detach", "--wait")
    try:
        assert await ask(protected, "liberte.png") == 401
        assert await ask(protected, "liberte.png", token=token) == 200
        assert (await predicted(documents, "liberte.png"))["prediction"]["text"]
    finally:
        stack.run("up", "--detach", "--wait")


def test_only_who_fetches_urls_reaches_out(stack: Stack) -> None:
    def reach(service: str, *address: str) -> None:
        stack.run("exec", "-T", service, "python", "-c", REACH, *address)

    for service in ("fetcher", "ocr-api"):
        reach(service, SAMPLES, "8090")
        reach(service, "minio", "9000")
    for service in ("consumer", "alert-webhook"):
        with pytest.raises(AssertionError, match=r"timed out|unreachable"):
            reach(service, SAMPLES, "8090")
    for server, port in (("rabbitmq", "5672"), ("mongo", "27017")):
        with pytest.raises(AssertionError, match=r"not known|resolution"):
            reach("ocr-api", server, port)


def test_default_routes_of_who_fetches_urls_lead_out(stack: Stack) -> None:
    """The samples are in the network's own subnet: reaching them needs no default route."""
    for service in ("fetcher", "ocr-api"):
        [default] = [route for route in stack.routes(service) if route.is_default]
        assert default.gateway in EGRESS, service
    others = set(stack.services()) - {"fetcher", "ocr-api", "samples"}
    assert len(others) > 10
    for service in sorted(others):
        for route in stack.routes(service):
            assert not EGRESS.overlaps(route.network) or route.is_default, service
            assert route.gateway not in EGRESS, service


def test_production_does_not_start_with_local_passwords(stack: Stack) -> None:
    arguments = ("run", "--rm", "--no-deps", "-T", "--env", "DOCRECO_ENV=production", "preflight")
    with pytest.raises(AssertionError, match="replace the default password"):
        stack.run(*arguments)


async def test_grafana_answers_and_prometheus_reaches_everything(stack: Stack) -> None:
    async with ClientSession(raise_for_status=True) as session:
        for setting in ("GRAFANA_PORT", "GRAFANA_SECOND_PORT"):
            async with session.get(f"{stack.url(setting)}/api/health") as response:
                assert response.status == 200

        async def all_up() -> bool:
            url = f"{stack.url('PROMETHEUS_PORT')}/api/v1/targets?state=active"
            async with session.get(url) as response:
                targets = (await response.json())["data"]["activeTargets"]
                return bool(targets) and all(each["health"] == "up" for each in targets)

        await eventually(all_up)
