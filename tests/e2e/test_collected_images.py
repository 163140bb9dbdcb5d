"""What the OCR API is sent becomes a document, once; what the consumer sends it does not."""

from collections.abc import AsyncIterator
from hashlib import sha256
from uuid import uuid4

import pytest
from aiohttp import ClientSession, FormData
from prometheus_client.parser import text_string_to_metric_families

from tests.support.images import line_image
from tests.support.pipeline import Client, Pipeline

TOKEN = "e2e-ocr-token"

pytestmark = pytest.mark.e2e


@pytest.fixture
async def api(pipeline: Pipeline) -> AsyncIterator[ClientSession]:
    """The pipeline's OCR API, which wants a token and collects what it is sent."""
    settings = {
        "ocr-api": {"OCR_API_TOKEN": TOKEN, "OCR_COLLECT": "1"},
        "consumer": {"CONSUMER_OCR_API_TOKEN": TOKEN},
    }
    async with pipeline.changed(settings), ClientSession(pipeline.ocr_url) as session:
        yield session


async def predict(api: ClientSession, content: bytes, *, token: str, **fields: str) -> int:
    form = FormData(fields)
    form.add_field("file", content, filename="a.png")
    headers = {"Authorization": f"Bearer {token}"}
    async with api.post("/predict", data=form, headers=headers) as response:
        return response.status


async def collected(api: ClientSession) -> float:
    async with api.get("/metrics") as response:
        text = await response.text()
    samples = (each for family in text_string_to_metric_families(text) for each in family.samples)
    return next(each.value for each in samples if each.name == "ocr_collected_total")


def key_of(content: bytes) -> str:
    return f"api/{sha256(content).hexdigest()}.png"


async def test_image_of_a_request_becomes_a_document_and_the_consumers_own_requests_do_not(
    client: Client, api: ClientSession
) -> None:
    known, plain, uploaded = (line_image(f"{each} {uuid4().hex[:6]}") for each in "kpu")
    before = await collected(api)
    upload_key = f"scans/{uuid4().hex}.png"
    await client.store.write(upload_key, uploaded, content_type="image/png", metadata={})
    await client.document({"key": upload_key, "status": "predicted"})  # the consumer has the token

    assert await predict(api, plain, token="not the token") == 401
    sent = {"source_url": "https://example.org/é.png", "annotation": "déjà vu"}
    assert await predict(api, known, token=TOKEN, **sent) == 200
    from_api = await client.document({"key": key_of(known), "status": "predicted"})
    # Images are written in order: what the consumer sent of the first one would be there by now
    assert await predict(api, plain, token=TOKEN) == 200
    anonymous = await client.document({"key": key_of(plain), "status": "predicted"})

    assert from_api["_id"] == f"raw/{key_of(known)}"
    assert [each["url"] for each in from_api["sources"]] == ["https://example.org/%C3%A9.png"]
    assert from_api["annotation"]["text"] == "déjà vu"
    assert from_api["prediction"]["engine"] == "rapidocr"
    assert (anonymous["sources"], anonymous["annotation"]) == ([], None)
    assert await client.store.head(key_of(uploaded)) is None
    assert await collected(api) == before + 2
