"""The whole fetcher against real MinIO, RabbitMQ and MongoDB, and a web site on loopback."""

import asyncio
import csv
import gzip
import hashlib
import json
from datetime import datetime
from io import BytesIO, StringIO
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from services.common.adapters.forgotten import Forgotten
from services.common.domain.provenance import from_metadata
from services.fetcher.batches.repository import UNCOUNTED
from tests.support.fetcher import (
    Surroundings,
    get_json,
    items_by_url,
    running_fetcher,
    submit,
    wait_done,
)
from tests.support.web import TWO_LENGTHS, WebSite, chunked, exchange, open_raw_server, png

FORM = '--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nx\r\n--b--\r\n'


async def post_list(
    api: aiohttp.ClientSession, content: str, content_type: str, **headers: str
) -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": content_type, **headers}
    async with api.post("/batches", data=content.encode(), headers=headers) as response:
        return response.status, await response.json()


async def stored_keys(surroundings: Surroundings) -> list[str]:
    listed = await surroundings.store.client.list_objects_v2(Bucket=surroundings.s3.bucket)
    return [each["Key"] for each in listed.get("Contents", [])]


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


async def test_annotation_too_long_for_a_header_is_found_by_its_fetch_id(
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


async def test_changed_annotation_and_missing_object_are_written_again(
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
async def test_content_type_that_is_no_text_does_not_keep_a_batch_from_its_end(
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


async def test_csv_as_a_file_of_a_form_reports_its_bad_lines(
    api: aiohttp.ClientSession, site: WebSite
) -> None:
    table = f'URL,Text\n{site.add_body("/a", png(1))},"a, b"\nftp://x.test/,c\n,d\n'
    form = aiohttp.FormData()
    form.add_field("name", "table")
    form.add_field("file", BytesIO(table.encode()), filename="list.csv")

    async with api.post("/batches", data=form) as response:
        submitted = await response.json()

    assert response.status == 202
    assert submitted["accepted"] == 1
    assert submitted["rejected_count"] == 2
    assert [(row["line"], row["code"]) for row in submitted["rejected"]] == [
        (3, "unsupported_scheme"),
        (4, "invalid_url"),
    ]
    batch = await wait_done(api, submitted["batch_id"])
    assert (batch["name"], batch["counts"]["stored"]) == ("table", 1)


async def test_failed_csv_can_be_submitted_as_it_is(
    api: aiohttp.ClientSession, site: WebSite
) -> None:
    bad = site.url('/later,"quoted".png')
    table = StringIO()
    csv.writer(table).writerows([("url", "annotation"), (bad, 'a, "b" é')])
    _, submitted = await post_list(api, table.getvalue(), "text/csv")
    await wait_done(api, submitted["batch_id"])

    async with api.get(f"/batches/{submitted['batch_id']}/failed.csv") as response:
        failed = await response.text()
    site.add_body('/later,"quoted".png', png(1))
    status, again = await post_list(api, failed, response.headers["Content-Type"])
    batch = await wait_done(api, again["batch_id"])

    assert status == 202
    assert batch["counts"]["stored"] == 1
    (item,) = (await items_by_url(api, again["batch_id"])).values()
    assert item["outcome"] == "stored"
    (row,) = csv.DictReader(StringIO(failed))
    assert (row["annotation"], row["code"]) == ('a, "b" é', "not_found")


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


async def test_retry_takes_what_may_have_passed_unless_told_to_take_all(
    api: aiohttp.ClientSession, site: WebSite
) -> None:
    flaky = site.add_body("/flaky", b"", status=503)
    missing = site.url("/missing")
    batch_id = (await submit(api, flaky, missing))["batch_id"]
    await wait_done(api, batch_id)
    site.add_body("/flaky", png(1))
    site.add_body("/missing", png(2))

    async with api.post(f"/batches/{batch_id}/retry") as response:
        assert (response.status, (await response.json())["retried"]) == (202, 1)
    await wait_done(api, batch_id)
    first = {url: item["outcome"] for url, item in (await items_by_url(api, batch_id)).items()}
    async with api.post(f"/batches/{batch_id}/retry?scope=all") as response:
        assert (response.status, (await response.json())["retried"]) == (202, 1)
    await wait_done(api, batch_id)
    second = {url: item["outcome"] for url, item in (await items_by_url(api, batch_id)).items()}

    assert first == {flaky: "stored", missing: "failed"}
    assert second == {flaky: "stored", missing: "stored"}


async def test_cancelled_batch_stops_and_its_counts_add_up(
    surroundings: Surroundings, site: WebSite
) -> None:
    arrived, interrupted = asyncio.Event(), asyncio.Event()

    async def handle(_: web.Request) -> web.Response:
        arrived.set()
        try:
            await asyncio.Event().wait()
        finally:
            interrupted.set()
        return web.Response()

    urls = [site.add(f"/{number}", handle) for number in range(50)]
    async with running_fetcher(surroundings, host_concurrency=2) as api:
        batch_id = (await submit(api, *urls))["batch_id"]
        await arrived.wait()

        async with api.post(f"/batches/{batch_id}/cancel") as response:
            cancelled = await response.json()
        async with asyncio.timeout(60):
            await interrupted.wait()

        assert response.status == 200
        assert cancelled["state"] == "cancelled"
        batch = await wait_done(api, batch_id)
        assert sum(batch["counts"].values()) == 50
        assert batch["counts"]["cancelled"] == 50
        async with api.post(f"/batches/{batch_id}/cancel") as response:
            assert response.status == 200
        async with api.post(f"/batches/{batch_id}/retry") as response:
            assert (response.status, (await response.json())["code"]) == (409, "batch_conflict")
        good = await submit(api, site.add_body("/good", png(9)))
        assert (await wait_done(api, good["batch_id"]))["counts"]["stored"] == 1
    assert sum(site.hits.values()) < 5


async def test_completed_batch_cannot_be_cancelled(
    api: aiohttp.ClientSession, site: WebSite
) -> None:
    batch_id = (await submit(api, site.url("/404")))["batch_id"]
    await wait_done(api, batch_id)

    async with api.post(f"/batches/{batch_id}/cancel") as response:
        assert (response.status, (await response.json())["code"]) == (409, "batch_conflict")


async def test_idempotency_key_gives_the_same_batch_and_only_for_the_same_list(
    api: aiohttp.ClientSession, site: WebSite
) -> None:
    urls = [site.add_body(f"/{number}", png(number)) for number in range(3)]
    headers = {"Idempotency-Key": "k-1"}

    answers = await asyncio.gather(*(submit(api, *urls, headers=headers) for _ in range(4)))
    again = await submit(api, *urls, headers=headers)
    status, problem = await post_list(
        api, site.url("/other"), "text/plain", **{"Idempotency-Key": "k-1"}
    )

    assert all(answer == again for answer in answers)
    assert (status, problem["code"]) == (422, "idempotency_key_reused")
    batch = await wait_done(api, again["batch_id"])
    assert batch["counts"]["stored"] == 3
    assert len((await get_json(api, "/batches"))["batches"]) == 1


async def test_submission_cut_off_by_a_crash_goes_on_when_it_is_repeated(
    api: aiohttp.ClientSession, site: WebSite, surroundings: Surroundings
) -> None:
    urls = [site.add_body(f"/{number}", png(number)) for number in range(3)]
    headers = {"Idempotency-Key": "k-1"}
    complete = await submit(api, *urls, headers=headers)
    batch_id = complete["batch_id"]
    await wait_done(api, batch_id)
    await surroundings.database.batches.update_one(
        {"_id": batch_id},
        {
            "$set": {"loaded": False, "dispatch.done": False, "dispatch.after": "", **UNCOUNTED},
            "$unset": {"accepted": "", "rejected": "", "rejected_count": ""},
        },
    )
    await surroundings.database.fetches.update_one(
        {"_id": {"$gt": f"{batch_id}/0000000001"}}, {"$set": {"outcome": "queued"}}
    )
    async with api.get(f"/batches/{batch_id}") as response:
        assert response.status == 404

    again = await submit(api, *urls, headers=headers)

    assert again == complete
    batch = await wait_done(api, batch_id)
    assert sum(batch["counts"].values()) == 3
    assert await surroundings.database.fetches.count({}) == 3


async def test_list_that_is_empty_or_all_bad_leaves_no_batch(api: aiohttp.ClientSession) -> None:
    for content, count in (("", 0), ("# only this\n\n", 0), ("ftp://x\nnothing\n", 2)):
        status, problem = await post_list(api, content, "text/plain")

        assert (status, problem["code"]) == (422, "empty_list")
        assert problem["rejected_count"] == count
        assert [row["line"] for row in problem["rejected"]] == list(range(1, count + 1))
    assert (await get_json(api, "/batches")) == {"batches": [], "next": None}


CSV = {"Content-Type": "text/csv"}
TABLE = (
    "fonds;lien_scan;texte_verifie\n"
    "7;http://x.test/a.png;put down; and up\n"
    "8;http://x.test/b.png;\n"
)


async def test_answer_tells_how_a_list_was_read(api: aiohttp.ClientSession) -> None:
    where = {"url_column": "lien_scan", "text_column": "texte_verifie"}
    async with api.post("/batches", data=TABLE, headers=CSV, params=where) as response:
        assert response.status == 202
        reading = (await response.json())["reading"]

    assert (reading["rows"], reading["with_text"]) == (2, 1)
    assert reading["columns"] == {"image": "lien_scan", "text": "texte_verifie"}
    assert (reading["metadata_columns"], reading["ignored_columns"]) == (["fonds"], [])
    assert (reading["separator"], reading["encoding"]) == (";", "utf-8-sig")
    assert [(note["line"], note["code"]) for note in reading["notes"]] == [(2, "cells_joined")]


async def test_dry_run_shows_rows_and_keeps_nothing(api: aiohttp.ClientSession) -> None:
    where = {"url_column": "lien_scan", "text_column": "texte_verifie", "dry_run": "true"}
    async with api.post("/batches", data=TABLE, headers=CSV, params=where) as response:
        assert response.status == 200
        preview = await response.json()

    assert preview["accepted"] == 2
    assert preview["rows"][0] == {
        "line": 2,
        "url": "http://x.test/a.png",
        "annotation": "put down; and up",
    }
    assert (await get_json(api, "/batches"))["batches"] == []


async def test_strict_list_is_taken_whole_or_not_at_all(api: aiohttp.ClientSession) -> None:
    where = {"url_column": "lien_scan", "text_column": "texte_verifie", "strict": "true"}
    async with api.post("/batches", data=TABLE, headers=CSV, params=where) as response:
        assert response.status == 422
        problem = await response.json()
    assert problem["code"] == "strict_list"
    assert problem["reading"]["note_count"] == 1
    assert (await get_json(api, "/batches"))["batches"] == []

    good = TABLE.replace("; and", " and")
    async with api.post("/batches", data=good, headers=CSV, params=where) as response:
        assert response.status == 202


async def test_declared_encoding_of_a_list_is_used(api: aiohttp.ClientSession) -> None:
    content = "url,text\nhttp://x.test/a.png,Žluťoučký\n".encode("windows-1250")
    headers = {"Content-Type": "text/csv; charset=windows-1250"}
    async with api.post(
        "/batches", data=content, headers=headers, params={"dry_run": "1"}
    ) as response:
        preview = await response.json()
    assert preview["rows"][0]["annotation"] == "Žluťoučký"

    async with api.post("/batches", data=content, headers=CSV, params={"encoding": "x"}) as refused:
        assert refused.status == 422
        assert "unknown encoding" in (await refused.json())["detail"]


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code"),
    [
        ('{"items": [\n{"url": }]}', "application/json", 422, "malformed_list"),
        ("[]", "application/json", 422, "empty_list"),
        ('{"list_url": 7}', "application/json", 422, "malformed_list"),
        ('{"list_url": "http://x.test/", "items": []}', "application/json", 422, "malformed_list"),
        ("name,age\nx,1\n", "text/csv", 422, "malformed_list"),
        ("http://x.test/", "image/png", 415, "unsupported_list_format"),
        ("x" * 3000, "text/plain", 413, "list_too_large"),
        ("{" + " " * 2000, "application/json", 413, "list_too_large"),
        ("--b\r\nbroken", "multipart/form-data; boundary=b", 422, "malformed_request"),
        ("--b--\r\n", "multipart/form-data; boundary=b", 422, "malformed_request"),
        ("x", "multipart/form-data", 422, "malformed_request"),
        (FORM, "multipart/form-data; boundary=b; charset=undefined", 422, "malformed_request"),
        (FORM, "multipart/form-data; boundary=b; charset=punycode", 422, "malformed_request"),
    ],
)
async def test_request_that_is_no_list_is_a_problem(
    surroundings: Surroundings, content: str, content_type: str, status: int, code: str
) -> None:
    async with running_fetcher(surroundings, max_list_bytes=2500, max_json_bytes=1000) as api:
        answer, problem = await post_list(api, content, content_type)

    assert (answer, problem["code"], problem["status"]) == (status, code, status)
    if content.startswith('{"items"'):
        assert problem["rejected"][0]["line"] == 2
    if content_type == "text/csv":
        assert problem["rejected"][0]["code"] == "no_url_column"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("page.pdf", "submit it as pages (--pages; over HTTP: pages=true)"),
        ("one.jpg", "declared as an image, but not one of"),
        ("list.docx", "is not supported: send text/plain"),
    ],
)
async def test_file_that_is_no_list_says_what_to_do(
    api: aiohttp.ClientSession, name: str, words: str
) -> None:
    form = aiohttp.FormData()
    form.add_field("file", b"x", filename=name)
    async with api.post("/batches", data=form) as response:
        problem = await response.json()
    assert (response.status, problem["code"]) == (415, "unsupported_list_format")
    assert words in problem["detail"]
    assert len(problem["detail"]) < 160


async def test_json_in_a_form_has_the_limit_of_json(surroundings: Surroundings) -> None:
    form = aiohttp.FormData()
    form.add_field("file", BytesIO(b"{" + b" " * 1500), filename="list.json")
    async with (
        running_fetcher(surroundings, max_list_bytes=2500, max_json_bytes=1000) as api,
        api.post("/batches", data=form) as response,
    ):
        assert (response.status, (await response.json())["code"]) == (413, "list_too_large")


@pytest.mark.parametrize(
    ("file_name", "content"),
    [
        ("list.txt", "http://127.0.0.1:1/a\n"),
        ("list.csv", "url,text\nhttp://127.0.0.1:1/a,b\n"),
        ("list.tsv", "url\ttext\nhttp://127.0.0.1:1/a\tb\n"),
        ("list.jsonl", '{"url": "http://127.0.0.1:1/a"}\n'),
        ("list.json", '{"items": [{"url": "http://127.0.0.1:1/a"}]}'),
    ],
)
async def test_compressed_list_is_the_same_list(
    api: aiohttp.ClientSession, file_name: str, content: str
) -> None:
    compressed = gzip.compress(content.encode())
    answers = []
    for name, data in ((file_name, content.encode()), (f"{file_name}.gz", compressed)):
        form = aiohttp.FormData()
        form.add_field("file", BytesIO(data), filename=name)
        headers = {"Idempotency-Key": file_name}
        async with api.post("/batches", data=form, headers=headers) as response:
            assert response.status == 202
            answers.append(await response.json())

    assert answers[0] == answers[1]
    assert answers[0]["accepted"] == 1


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (gzip.compress(b"#" * 2501), 413, "list_too_large"),
        (gzip.compress(b"http://x.test/")[:-9], 422, "malformed_list"),
        (gzip.compress(b"http://x.test/")[:-8] + b"8 bytes.", 422, "malformed_list"),
        (b"\x1f\x8b\x08\x00" + b"\xff" * 20, 422, "malformed_list"),
    ],
    ids=["bomb", "cut", "checksum", "garbage"],
)
async def test_compressed_list_that_is_too_large_or_broken_is_a_problem(
    surroundings: Surroundings, content: bytes, status: int, code: str
) -> None:
    headers = {"Content-Type": "text/plain"}
    async with (
        running_fetcher(surroundings, max_list_bytes=2500, max_json_bytes=1000) as api,
        api.post("/batches", data=content, headers=headers) as response,
    ):
        assert (response.status, (await response.json())["code"]) == (status, code)


async def test_unknown_batch_is_a_problem_everywhere(api: aiohttp.ClientSession) -> None:
    for path in ("", "/items", "/failed.csv", "/events"):
        async with api.get(f"/batches/none{path}") as response:
            assert (response.status, (await response.json())["code"]) == (404, "batch_not_found")
    for path in ("/retry", "/cancel"):
        async with api.post(f"/batches/none{path}") as response:
            assert (response.status, (await response.json())["code"]) == (404, "batch_not_found")


async def test_lists_come_in_pages_that_follow_each_other(
    api: aiohttp.ClientSession, site: WebSite
) -> None:
    urls = [site.url(f"/{number}") for number in range(5)]
    batch_id = (await submit(api, *urls))["batch_id"]
    await submit(api, urls[0])
    await wait_done(api, batch_id)

    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        path = f"/batches/{batch_id}/items?outcome=failed&limit=2"
        page = await get_json(api, path + (f"&cursor={cursor}" if cursor else ""))
        seen += [item["url"] for item in page["items"]]
        cursor = page["next"]
    assert seen == urls

    newest = await get_json(api, "/batches?limit=1")
    oldest = await get_json(api, f"/batches?limit=1&cursor={newest['next']}")
    assert newest["batches"][0]["batch_id"] != batch_id
    assert oldest["batches"][0]["batch_id"] == batch_id


@pytest.mark.parametrize("number", ["9" * 80, "9" * 20, "1", "x" * 10, ""])
async def test_cursor_that_is_none_of_ours_is_refused(
    api: aiohttp.ClientSession, number: str
) -> None:
    batch_id = (await submit(api, "http://127.0.0.1:1/a"))["batch_id"]
    path = f"/batches/{batch_id}/items?cursor={batch_id}/{number}"

    async with api.get(path) as response:
        assert (response.status, (await response.json())["code"]) == (422, "invalid_request")


async def test_progress_is_streamed_until_the_batch_is_done(
    api: aiohttp.ClientSession, site: WebSite
) -> None:
    urls = [site.add_body(f"/{number}", png(number)) for number in range(5)]
    batch_id = (await submit(api, *urls))["batch_id"]

    async with api.get(f"/batches/{batch_id}/events") as response:
        assert response.content_type == "text/event-stream"
        text = await response.text()

    last = json.loads(text.strip().rpartition("data: ")[2])
    assert last["state"] == "completed"
    assert last["counts"]["stored"] == 5


async def test_token_opens_all_and_without_it_only_health_and_metrics_answer(
    surroundings: Surroundings,
) -> None:
    async with running_fetcher(surroundings, api_token="hush-é") as api:
        for path in ("/livez", "/readyz", "/metrics"):
            async with api.get(path) as response:
                assert response.status == 200
        for method, path in (
            ("GET", "/batches"),
            ("POST", "/batches"),
            ("GET", "/batches/x"),
            ("GET", "/batches/x/items"),
            ("GET", "/batches/x/failed.csv"),
            ("GET", "/batches/x/events"),
            ("POST", "/batches/x/retry"),
            ("POST", "/batches/x/cancel"),
        ):
            async with api.request(method, path) as response:
                assert (response.status, (await response.json())["code"]) == (401, "unauthorized")
                assert response.headers["WWW-Authenticate"] == "Bearer"
        async with api.get("/openapi.json") as response:
            assert response.status == 404
        for token, status in (("wrong", 401), ("hush-é", 200)):
            headers = {"Authorization": f"Bearer {token}"}
            async with api.get("/batches", headers=headers) as response:
                assert response.status == status


async def test_items_and_bytes_are_counted(api: aiohttp.ClientSession, site: WebSite) -> None:
    async def metric(name: str) -> float:
        async with api.get("/metrics") as response:
            lines = (await response.text()).splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    content = png(1)
    stored, bytes_read = 'fetcher_items_total{code="stored"', "fetcher_download_bytes_total"
    before = (await metric(stored), await metric(bytes_read))
    batch_id = (await submit(api, site.add_body("/a", content)))["batch_id"]
    await wait_done(api, batch_id)

    assert (await metric(stored), await metric(bytes_read)) == (
        before[0] + 1,
        before[1] + len(content),
    )


async def test_api_describes_itself(api: aiohttp.ClientSession) -> None:
    document = await get_json(api, "/openapi.json")

    assert set(document["paths"]["/batches"]) == {"get", "post"}
    body = document["paths"]["/batches"]["post"]["requestBody"]
    assert "text/csv" in body["content"]


async def test_body_of_two_lengths_is_refused(api: aiohttp.ClientSession) -> None:
    assert api._base_url is not None
    url = api._base_url.with_path("/batches")
    answer = await exchange(url, ["Content-Type: text/csv", *TWO_LENGTHS], chunked(b"a"))

    assert answer.startswith(b"HTTP/1.1 400 ")
