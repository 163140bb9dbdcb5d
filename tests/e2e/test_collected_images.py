"""Images sent to the OCR API become documents once; those of the consumer do not."""

from collections import defaultdict
from collections.abc import AsyncIterator
from hashlib import sha256
from uuid import uuid4

import pytest
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families

from tests.support.images import line_image
from tests.support.ocr_api import predict
from tests.support.pipeline import Client, Pipeline
from tests.support.web import WebSite

TOKEN = "e2e-ocr-token"


@pytest.fixture
async def api(pipeline: Pipeline) -> AsyncIterator[ClientSession]:
    """The pipeline's OCR API, which wants a token here."""
    settings = {"ocr-api": {"OCR_API_TOKEN": TOKEN}, "consumer": {"OCR_API_TOKEN": TOKEN}}
    async with pipeline.changed(settings), ClientSession(pipeline.ocr_url) as session:
        yield session


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def metrics(api: ClientSession) -> dict[str, float]:
    """Return each metric by its name, added up over its labels."""
    async with api.get("/metrics") as response:
        text = await response.text()
    values: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            values[each.name] += each.value
    return values


async def collected(api: ClientSession) -> float:
    return (await metrics(api))["ocr_collected_total"]


def key_of(content: bytes) -> str:
    return f"api/{sha256(content).hexdigest()}.png"


async def test_only_requests_of_clients_become_documents(
    client: Client, api: ClientSession
) -> None:
    known, plain, uploaded = (line_image(f"{each} {uuid4().hex[:6]}") for each in "kpu")
    before = await collected(api)
    upload_key = f"scans/{uuid4().hex}.png"
    await client.store.write(upload_key, uploaded, content_type="image/png", metadata={})
    await client.document({"key": upload_key, "status": "predicted"})  # the consumer has the token

    assert await predict(api, plain, bearer("not the token")) == 401
    sent = {"source_url": "https://example.org/é.png", "annotation": "déjà vu"}
    assert await predict(api, known, bearer(), **sent) == 200
    from_api = await client.document({"key": key_of(known), "status": "predicted"})
    # Images are written in order: what the consumer sent of the first one would be there by now
    assert await predict(api, plain, bearer()) == 200
    anonymous = await client.document({"key": key_of(plain), "status": "predicted"})

    assert from_api["_id"] == f"raw/{key_of(known)}"
    assert [each["url"] for each in from_api["sources"]] == ["https://example.org/%C3%A9.png"]
    assert from_api["annotation"]["text"] == "déjà vu"
    assert from_api["prediction"]["engine"] == "rapidocr"
    assert [each["kind"] for each in anonymous["sources"]] == ["api"]
    assert anonymous["annotation"] is None
    assert await client.store.head(key_of(uploaded)) is None
    assert await collected(api) == before + 2


async def test_image_of_a_requested_url_becomes_a_document(
    client: Client, site: WebSite, pipeline: Pipeline
) -> None:
    content = line_image(f"url {uuid4().hex[:6]}")
    site.add_body("/asked.png", content)
    url = site.url("/asked.png?token=secret")
    async with ClientSession(pipeline.ocr_url) as session:
        before = await metrics(session)
        body = {"url": url, "annotation": "url"}
        async with session.post("/predict", json=body) as response:
            assert response.status == 200, await response.text()
            read = (await response.json())["text"]
        document = await client.document({"key": key_of(content), "status": "predicted"})
        after = await metrics(session)

    stored = await client.store.read(key_of(content), max_bytes=len(content))
    assert stored.content == content
    assert [each["url"] for each in document["sources"]] == [url.replace("secret", "REDACTED")]
    assert document["annotation"]["text"] == "url"
    assert document["prediction"]["text"] == read
    assert after["ocr_predictions_total"] >= before["ocr_predictions_total"] + 2  # the consumer's
    assert after["ocr_collected_total"] >= before["ocr_collected_total"] + 1
    downloaded = after["ocr_download_bytes_total"] - before["ocr_download_bytes_total"]
    assert downloaded >= len(content)  # and the host's robots.txt
    assert not [name for name in after if name.startswith("fetcher_")]


async def test_every_process_of_the_api_collects(client: Client, pipeline: Pipeline) -> None:
    contents = [line_image(f"{number} {uuid4().hex[:6]}") for number in range(12)]
    settings = {"ocr-api": {"OCR_WORKERS": "2", "OCR_THREADS": "1"}}
    async with pipeline.changed(settings):
        for content in contents:  # each on a connection of its own, so that both processes get some
            async with ClientSession(pipeline.ocr_url) as session:
                assert await predict(session, content, bearer("none is wanted")) == 200
        for content in contents:
            await client.document({"key": key_of(content), "status": "predicted"})
        async with ClientSession(pipeline.ocr_url) as session:
            shown = await metrics(session)

    assert shown["ocr_collected_total"] >= len(contents)  # of both together
    assert shown["ocr_collect_waiting"] == 0
    assert shown["ocr_collect_dropped_total"] == 0
