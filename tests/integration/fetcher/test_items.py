"""Items of batches become objects with their provenance, or end with a code."""

import hashlib
from datetime import datetime

import aiohttp
import pytest
from aiohttp import web

from services.common.adapters.forgotten import Forgotten
from services.common.domain.provenance import from_metadata
from tests.support.fetcher import (
    Surroundings,
    get_json,
    items_by_url,
    stored_keys,
    submit,
    wait_done,
)
from tests.support.web import WebSite, open_raw_server, png


async def test_submitted_image_is_stored_with_where_it_came_from(
    api: aiohttp.ClientSession, site: WebSite, surroundings: Surroundings
) -> None:
    content = png(1)
    url = site.add_body("/été.png", content, content_type="text/plain")
    body = {"name": "mine", "items": [{"url": url, "annotation": "Où ?"}]}

    async with api.post("/batches", json=body) as response:
        submitted = await response.json()
        assert response.status == 202
        assert response.headers["Location"] == submitted["status_url"]
    batch = await wait_done(api, submitted["batch_id"])

    assert submitted["accepted"] == 1
    assert submitted["rejected"] == []
    assert batch["name"] == "mine"
    assert batch["state"] == "completed"
    assert batch["counts"] == {
        "queued": 0,
        "stored": 1,
        "unchanged": 0,
        "failed": 0,
        "cancelled": 0,
    }
    assert batch["created_at"] < batch["finished_at"]
    sha256 = hashlib.sha256(content).hexdigest()
    key = f"fetched/{sha256[:2]}/{sha256}.png"
    stored = await surroundings.store.read(key, max_bytes=10_000)
    assert stored.content == content
    assert stored.info.content_type == "image/png"
    provenance = from_metadata(dict(stored.info.metadata))
    assert provenance.source_url == url.replace("é", "%C3%A9")
    assert provenance.annotation == "Où ?"
    assert provenance.batch_id == submitted["batch_id"]
    assert provenance.fetched_at is not None


async def test_stored_item_has_a_document_with_all_that_is_known(
    api: aiohttp.ClientSession, site: WebSite, surroundings: Surroundings
) -> None:
    content = png(1)
    url = site.add_body("/a.png", content)
    batch_id = (await submit(api, url))["batch_id"]
    await wait_done(api, batch_id)

    sha256 = hashlib.sha256(content).hexdigest()
    key = f"fetched/{sha256[:2]}/{sha256}.png"
    (item,) = (await items_by_url(api, batch_id)).values()
    assert item == {
        "url": url,
        "outcome": "stored",
        "code": "stored",
        "detail": None,
        "key": key,
        "attempts": 1,
    }
    document = await surroundings.database.fetches.find_one({"url": url})
    assert document is not None
    assert (document["sha256"], document["size_bytes"]) == (sha256, len(content))
    assert document["http_status"] == 200
    assert document["duration_seconds"] > 0
    assert isinstance(document["finished_at"], datetime)


async def test_annotation_too_long_for_a_header_is_looked_up(
    api: aiohttp.ClientSession, site: WebSite, surroundings: Surroundings
) -> None:
    annotation = "é" * 1000
    body = {"items": [{"url": site.add_body("/a", png(1)), "annotation": annotation}]}

    async with api.post("/batches", json=body) as response:
        batch_id = (await response.json())["batch_id"]
    await wait_done(api, batch_id)

    (key,) = await stored_keys(surroundings)
    info = await surroundings.store.head(key)
    assert info is not None
    fetch_id = from_metadata(dict(info.metadata)).fetch_id
    fetch = await surroundings.database.fetches.find_one({"_id": fetch_id})
    assert fetch is not None
    assert fetch["annotation"] == annotation


async def test_same_list_again_is_unchanged_and_adds_its_batch(
    api: aiohttp.ClientSession, site: WebSite, surroundings: Surroundings
) -> None:
    urls = [site.add_body(f"/{number}", png(number)) for number in range(3)]
    first = await submit(api, *urls)
    await wait_done(api, first["batch_id"])
    before = [await surroundings.store.head(key) for key in await stored_keys(surroundings)]

    second = await submit(api, *urls)
    batch = await wait_done(api, second["batch_id"])

    assert second["batch_id"] != first["batch_id"]
    assert batch["counts"]["unchanged"] == 3
    after = [await surroundings.store.head(key) for key in await stored_keys(surroundings)]
    assert len(after) == 3
    for info, earlier in zip(after, before, strict=True):
        assert info is not None
        assert earlier is not None
        batches = (earlier.metadata["batch-id"], info.metadata["batch-id"])
        assert batches == (first["batch_id"], second["batch_id"])
        assert info.metadata["source-url"] == earlier.metadata["source-url"]
        assert (info.etag, info.content_type) == (earlier.etag, earlier.content_type)


async def test_changed_annotation_or_missing_object_is_rewritten(
    api: aiohttp.ClientSession, site: WebSite, surroundings: Surroundings
) -> None:
    url = site.add_body("/a", png(1))

    async def outcome(annotation: str | None) -> str:
        body = {"items": [{"url": url, "annotation": annotation}]}
        async with api.post("/batches", json=body) as response:
            batch_id = (await response.json())["batch_id"]
        await wait_done(api, batch_id)
        (item,) = (await items_by_url(api, batch_id)).values()
        return str(item["outcome"])

    assert await outcome("one") == "stored"
    assert await outcome("one") == "unchanged"
    assert await outcome("two") == "stored"
    assert await outcome("one") == "stored"
    (key,) = await stored_keys(surroundings)
    info = await surroundings.store.head(key)
    assert info is not None
    assert info.metadata["annotation"] == "one"
    assert await outcome(None) == "unchanged"
    info = await surroundings.store.head(key)
    assert info is not None
    assert info.metadata["annotation"] == "one"
    await surroundings.store.delete(key)
    assert await outcome("one") == "stored"


async def test_every_failure_has_its_code_and_the_good_ones_go_on(
    api: aiohttp.ClientSession, site: WebSite, surroundings: Surroundings
) -> None:
    html = b"<!DOCTYPE html><title>Not found</title>"
    truncated = png(5)[:-20]
    expected = {
        site.add_body("/good", png(1)): ("stored", "stored", 1),
        site.add_body("/truncated", truncated): ("stored", "stored", 1),
        site.url("/404"): ("failed", "not_found", 1),
        site.add_body("/page.png", html): ("failed", "not_an_image", 1),
        site.add_body("/a.svg", b"<svg/>"): ("failed", "not_an_image", 1),
        site.add_body("/a.pdf", b"%PDF-1.4"): ("failed", "not_an_image", 1),
        site.add_body("/a.json", b'{"a": 1}'): ("failed", "not_an_image", 1),
        site.add_body("/noise", b"\x00" * 99): ("failed", "not_an_image", 1),
        site.add_body("/empty", b""): ("failed", "empty_body", 1),
        site.add_body("/large", b"x" * 300_000): ("failed", "too_large", 1),
        site.add_body("/500", b"", status=500): ("failed", "http_server_error", 3),
        site.add_body("/429", b"", status=429): ("failed", "rate_limited", 3),
        "http://10.0.0.1/a": ("failed", "forbidden_address", 1),
        "http://127.0.0.1:1/a": ("failed", "connection_failed", 2),
    }

    submitted = await submit(api, *expected)
    batch = await wait_done(api, submitted["batch_id"])
    items = await items_by_url(api, submitted["batch_id"])

    found = {url: (item["outcome"], item["code"], item["attempts"]) for url, item in items.items()}
    assert found == expected
    assert "an HTML page" in items[site.url("/page.png")]["detail"]
    assert batch["counts"]["failed"] == 12
    assert len(await stored_keys(surroundings)) == 2


@pytest.mark.parametrize("claimed", [b"text/\xff\xfe", b"text/\x01" + b"x" * 5000])
async def test_invalid_content_type_does_not_keep_a_batch_open(
    api: aiohttp.ClientSession, claimed: bytes
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: " + claimed + b"\r\n\r\nno"
    async with open_raw_server(answer) as url:
        batch_id = (await submit(api, url))["batch_id"]
        await wait_done(api, batch_id)

    (item,) = (await items_by_url(api, batch_id)).values()
    assert (item["outcome"], item["code"]) == ("failed", "not_an_image")
    assert item["detail"].isprintable()
    assert "declared as text/\N{REPLACEMENT CHARACTER}" in item["detail"]
    assert len(item["detail"]) < 510


async def test_host_that_recovers_is_fetched_by_a_later_attempt(
    api: aiohttp.ClientSession, site: WebSite
) -> None:
    async def handle(_: web.Request) -> web.Response:
        if site.hits["/a"] < 3:
            return web.Response(status=503)
        return web.Response(body=png(1))

    submitted = await submit(api, site.add("/a", handle))
    await wait_done(api, submitted["batch_id"])

    (item,) = (await items_by_url(api, submitted["batch_id"])).values()
    assert (item["outcome"], item["code"], item["attempts"]) == ("stored", "stored", 3)
    assert item["detail"] is None


async def test_items_are_shown_without_the_secrets_of_their_urls(
    api: aiohttp.ClientSession, site: WebSite, surroundings: Surroundings
) -> None:
    good = f"{site.add_body('/good', png(1))}?token=s3cret&page=1"
    bad = f"{site.url('/bad')}?sig=s3cret"
    credentials = "http://ada:s3cret@example.test/a.png"

    submitted = await submit(api, good, bad, credentials)
    await wait_done(api, submitted["batch_id"])

    assert "s3cret" not in str(submitted)
    items = await items_by_url(api, submitted["batch_id"])
    assert set(items) == {good.replace("s3cret", "REDACTED"), bad.replace("s3cret", "REDACTED")}
    fetches = [each async for each in surroundings.database.fetches.find({}, sort=[("_id", 1)])]
    assert [each["url"] for each in fetches] == [good, bad]
    assert "s3cret" not in " ".join(each["source_url"] for each in fetches)
    assert "s3cret" not in str([each async for each in surroundings.database.batches.find({})])


async def test_forgotten_url_is_not_asked_again(
    api: aiohttp.ClientSession, site: WebSite, surroundings: Surroundings
) -> None:
    url = site.add_body("/private.png", png(1))
    signed = [f"{site.add_body('/signed', png(2))}?sig={number}" for number in (1, 2)]
    forgotten = Forgotten(surroundings.database.forgotten)
    await forgotten.add([url, f"{site.url('/signed')}?sig=REDACTED"])

    submitted = await submit(api, url, *signed)
    await wait_done(api, submitted["batch_id"])

    items = (await get_json(api, f"/batches/{submitted['batch_id']}/items"))["items"]
    assert [(each["outcome"], each["code"]) for each in items] == [("failed", "forgotten")] * 3
    assert await stored_keys(surroundings) == []
    await forgotten.remove([url])
    await forgotten.add(images={hashlib.sha256(png(1)).hexdigest(): ()})
    again = await submit(api, url)
    assert (await wait_done(api, again["batch_id"]))["counts"]["failed"] == 1
    assert await stored_keys(surroundings) == []
    await forgotten.remove(images=[hashlib.sha256(png(1)).hexdigest()])
    again = await submit(api, url)
    assert (await wait_done(api, again["batch_id"]))["counts"]["stored"] == 1
