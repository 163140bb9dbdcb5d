"""``docreco images`` and ``doctor`` against real servers."""

import csv
import json
from collections.abc import AsyncIterator
from io import StringIO
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from typer.testing import Result

from infra.local.ports import pick_free_ports
from infra.local.stack import Addresses
from services.common.adapters.mongo import Database
from services.common.adapters.object_store import open_object_store
from services.common.runtime.settings import S3Settings
from tests.support.commands import docreco
from tests.support.fetcher_api import scripted_fetcher
from tests.support.ocr_api import scripted_ocr_api

pytestmark = pytest.mark.usefixtures("mongo_environment")

SERVICES = ("OCR", "FETCHER", "CONSUMER", "REVIEW", "RECONCILER", "SEGMENTER", "PROMETHEUS")


@pytest.fixture
async def images(database: Database) -> Database:
    """Three images: one read well, one badly, one rejected."""
    for name, score in (("good", 0.99), ("bad", 0.12)):
        await database.images.insert(
            {
                "_id": f"raw/{name}.png",
                "status": "predicted",
                "prediction": {"text": f"[b]{name}\x1b[2J", "score": score},
                "annotation": {"text": name},
                "sources": [{"url": f"http://site.example/{name}", "batch_id": f"batch-{name}"}],
            }
        )
    await database.images.insert(
        {
            "_id": "raw/broken.png",
            "status": "rejected",
            "prediction": None,
            "annotation": None,
            "sources": [],
            "error": {"code": "undecodable_image", "detail": "damaged"},
        }
    )
    return database


async def listed(*arguments: str) -> list[str]:
    result = await docreco("images", "--json", *arguments)
    assert result.exit_code == 0
    return [row["image"] for row in json.loads(result.stdout)]


@pytest.mark.usefixtures("images")
async def test_images_lists_the_worst_first() -> None:
    assert await listed("--worst-first") == ["raw/bad.png", "raw/good.png"]
    assert await listed("--worst-first", "--limit", "1") == ["raw/bad.png"]


@pytest.mark.usefixtures("images")
async def test_images_filters_by_status_and_batch() -> None:
    assert len(await listed()) == 3
    assert await listed("--status", "rejected") == ["raw/broken.png"]
    assert await listed("--batch", "batch-good") == ["raw/good.png"]
    assert await listed("--batch", "none") == []


@pytest.mark.usefixtures("images")
async def test_images_json_has_the_error_rate_and_the_source() -> None:
    result = await docreco("images", "--json", "--batch", "batch-bad")
    (row,) = json.loads(result.stdout)
    assert row["score"] == 0.12
    assert row["cer"] == pytest.approx(7 / 3)
    assert row["sources"] == ["http://site.example/bad"]


@pytest.mark.usefixtures("images")
async def test_images_table_shows_hostile_text_harmlessly() -> None:
    result = await docreco("images")
    assert result.exit_code == 0
    assert "[b]good" in result.stdout
    assert "\x1b" not in result.stdout


async def test_images_shows_whole_keys_where_asked(images: Database) -> None:
    key = f"raw/fetched/ab/{'ab' * 32}.png"
    await images.images.insert({"_id": key, "status": "predicted", "sources": []})

    cut, wide = await docreco("images"), await docreco("images", "--wide")
    rows = list(csv.DictReader(StringIO((await docreco("images", "--csv")).stdout)))

    assert key not in cut.stdout
    assert "--wide" in cut.stdout
    assert key in wide.stdout
    assert "--wide" not in wide.stdout
    by_image = {row["image"]: row for row in rows}
    assert key in by_image
    assert by_image["raw/bad.png"]["prediction"] == "[b]bad\x1b[2J"
    assert by_image["raw/bad.png"]["score"] == "0.12"
    assert by_image["raw/bad.png"]["url"] == "http://site.example/bad"
    assert by_image["raw/broken.png"]["error_code"] == "undecodable_image"
    assert (await docreco("images", "--csv", "--json")).exit_code == 2


@pytest.mark.usefixtures("database")
async def test_no_images_is_said() -> None:
    result = await docreco("images")
    assert result.exit_code == 0
    assert result.stdout == "No such image.\n"


async def test_images_without_mongodb_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_URL", f"mongodb://127.0.0.1:{pick_free_ports().mongo_port}")
    monkeypatch.setenv("MONGO_TIMEOUT_SECONDS", "0.3")
    result = await docreco("images", "--json")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "MONGO_URL" in result.stderr


@pytest.fixture
async def everything(
    servers: Addresses, s3_settings: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """Real servers with a bucket, and services that are ready."""
    for name, value in servers.environment(bucket=s3_settings.bucket).items():
        monkeypatch.setenv(name, value)
    async with open_object_store(s3_settings) as store, scripted_fetcher() as fetcher:
        await store.client.create_bucket(Bucket=s3_settings.bucket)
        for name in SERVICES:
            monkeypatch.setenv(f"DOCRECO_{name}_URL", fetcher.url)
        yield


def findings(result: Result, group: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads(result.stdout)[group]}


@pytest.mark.usefixtures("everything")
async def test_doctor_finds_the_servers_well() -> None:
    found = findings(await docreco("doctor", "--json"), "addresses")
    healths = {name: finding["health"] for name, finding in found.items()}
    assert healths == {
        "OCR API": "ok",
        "fetcher": "ok",
        "consumer": "ok",
        "review page": "ok",
        "reconciler": "ok",
        "segmenter": "ok",
        "Prometheus": "unreachable",  # the stand-in has no /-/ready
        "MinIO": "ok",
        "RabbitMQ": "ok",
        "MongoDB": "ok",
    }
    assert found["Prometheus"]["detail"].startswith("answers 404")


@pytest.mark.usefixtures("everything")
async def test_doctor_names_what_is_down_and_what_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = pick_free_ports()
    monkeypatch.setenv("S3_ENDPOINT_URL", f"http://127.0.0.1:{ports.minio_port}")
    monkeypatch.setenv("AMQP_URL", f"amqp://user:s3cret@127.0.0.1:{ports.rabbitmq_port}/")
    result = await docreco("doctor", "--json")
    assert result.exit_code == 1
    assert "s3cret" not in result.output
    found = findings(result, "addresses")
    for name, setting in (("MinIO", "S3_ENDPOINT_URL"), ("RabbitMQ", "AMQP_URL")):
        assert found[name]["health"] == "unreachable"
        assert found[name]["detail"] == "connection refused"
        assert "./run_local.sh" in found[name]["mend"]
        assert setting in found[name]["mend"]


@pytest.mark.usefixtures("everything")
async def test_doctor_says_which_check_of_a_service_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted_ocr_api() as api:
        api.is_ready = False
        monkeypatch.setenv("DOCRECO_OCR_URL", str(api.url))
        found = findings(await docreco("doctor", "--json"), "addresses")
    assert found["OCR API"]["detail"] == "answers 503"


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("up", [["1", "1"], ["1", "0"], []])
async def test_doctor_asks_prometheus_about_containers(
    monkeypatch: pytest.MonkeyPatch, up: list[str]
) -> None:
    async def query(request: web.Request) -> web.Response:
        is_consumer = request.query["query"] == 'up{job="consumer"}'
        series = [{"metric": {}, "value": [1732700000.1, each]} for each in up if is_consumer]
        return web.json_response({"status": "success", "data": {"result": series}})

    application = web.Application()
    application.router.add_get("/api/v1/query", query)
    monkeypatch.setenv(
        "DOCRECO_CONSUMER_URL", f"http://127.0.0.1:{pick_free_ports().consumer_port}"
    )
    async with TestServer(application) as server, scripted_ocr_api() as api:
        api.is_ready = False
        monkeypatch.setenv("DOCRECO_SEGMENTER_URL", str(api.url))
        monkeypatch.setenv("DOCRECO_PROMETHEUS_URL", str(server.make_url("/")))
        found = findings(await docreco("doctor", "--json"), "addresses")

    consumer = found["consumer"]
    if up == ["1", "1"]:
        assert consumer["health"] == "ok"
        assert consumer["detail"] == "no port here; Prometheus reaches 2 of 2, readiness unknown"
    else:
        assert (consumer["health"], consumer["detail"]) == ("unreachable", "connection refused")
    assert found["segmenter"]["health"] == "unreachable"  # it answers that it isn't ready


@pytest.mark.usefixtures("everything")
async def test_doctor_for_people_ends_with_advice() -> None:
    result = await docreco("doctor")
    assert result.exit_code == 1
    assert result.stdout.rstrip().endswith(
        "Prometheus: ./run_local.sh or docker compose up -d, or set DOCRECO_PROMETHEUS_URL"
    )
