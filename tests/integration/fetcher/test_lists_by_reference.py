"""Lists and archives that the fetcher gets by itself, and lists that become items bit by bit."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web

from services.common.domain.provenance import from_metadata
from services.fetcher.batches import dispatcher
from services.fetcher.batches.item_repository import ItemRepository
from services.fetcher.batches.pages import PAGE_ROWS, Expander, ListPages
from services.fetcher.batches.references import FETCHES_AT_ONCE
from services.fetcher.batches.repository import BatchRepository
from services.fetcher.sources import spool
from tests.support.archives import tgz_of, zip_of
from tests.support.fetcher import (
    Surroundings,
    get_json,
    items_by_url,
    running_fetcher,
    submit,
    wait_done,
)
from tests.support.waiting import eventually
from tests.support.web import WebSite, open_site, png


async def post_url(api: aiohttp.ClientSession, url: str, **headers: str) -> tuple[int, Any]:
    async with api.post("/batches", json={"list_url": url}, headers=headers) as response:
        return response.status, await response.json()


def parquet_of(**columns: list[str]) -> bytes:
    content = BytesIO()
    pq.write_table(pa.table(columns), content)
    return content.getvalue()


async def test_list_at_an_address_is_taken_whatever_its_format(
    api: aiohttp.ClientSession, site: WebSite
) -> None:
    url = site.add_body("/a.png", png(1))
    lists = {
        "/list.csv": f"url,text\n{url},b\n".encode(),
        "/list": f"{url}\n".encode(),
        "/list.txt.gz": gzip.compress(f"{url}\n".encode()),
        "/l": json.dumps({"name": "theirs", "items": [{"url": url}]}).encode(),
        "/data": parquet_of(Image_URL=[url], Label=["b"]),
    }
    for path, content in lists.items():
        status, submitted = await post_url(api, f"{site.add_body(path, content)}?sig=hush")

        assert (status, submitted["accepted"]) == (202, 1), path
        batch = await wait_done(api, submitted["batch_id"])
        assert batch["list_url"] == site.url(path)
        assert batch["name"] == ("theirs" if path == "/l" else path[1:])
        assert set(await items_by_url(api, submitted["batch_id"])) == {url}


async def test_parquet_can_be_sent_as_a_file(api: aiohttp.ClientSession) -> None:
    content = parquet_of(url=["http://127.0.0.1:1/a", "nothing"], text=["a", "b"])
    headers = {"Content-Type": "application/vnd.apache.parquet"}

    async with api.post("/batches", data=content, headers=headers) as response:
        submitted = await response.json()

    assert (submitted["accepted"], submitted["rejected"][0]["line"]) == (1, 2)
    assert submitted["encoding"] is None


async def test_answer_says_how_a_text_was_read(api: aiohttp.ClientSession) -> None:
    content = "url,text\nhttp://127.0.0.1:1/a,é\n".encode("cp1252")
    async with api.post(
        "/batches", data=content, headers={"Content-Type": "text/csv", "Idempotency-Key": "k"}
    ) as response:
        assert (await response.json())["encoding"] == "cp1252"


async def test_list_that_cannot_be_had_is_a_problem_with_the_reason(
    api: aiohttp.ClientSession, site: WebSite
) -> None:
    found = [
        await post_url(api, url)
        for url in (
            site.url("/404"),
            "http://10.0.0.1/list.txt",
            site.add_redirect("/away", "http://169.254.169.254/"),
            site.add_body("/500", b"", status=500),
            "http://127.0.0.1:1/list.txt",
            "ftp://x.test/list.txt",
            site.add_body("/empty", b""),
        )
    ]

    assert [(status, problem["code"]) for status, problem in found] == [
        (422, "not_found"),
        (422, "forbidden_address"),
        (422, "forbidden_address"),
        (502, "http_server_error"),
        (502, "connection_failed"),
        (422, "malformed_list"),
        (422, "empty_list"),
    ]


async def test_list_at_an_address_has_the_limits_of_any_list(
    surroundings: Surroundings, site: WebSite
) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"#\n")
            await asyncio.sleep(0.1)

    async with running_fetcher(surroundings, max_list_bytes=100) as api:
        large = await post_url(api, site.add_body("/large.txt", b"#" * 101))
        packed = await post_url(api, site.add_body("/bomb.gz", gzip.compress(b"#" * 101)))
    async with running_fetcher(surroundings, list_timeout_seconds=1) as api:
        slow = await post_url(api, site.add("/slow.txt", drip))

    assert (packed[0], packed[1]["code"]) == (413, "list_too_large")
    assert (large[0], large[1]["code"]) == (413, "list_too_large")
    assert (slow[0], slow[1]["code"]) == (502, "timeout")


async def test_same_key_and_list_url_give_the_same_batch(
    api: aiohttp.ClientSession, site: WebSite, surroundings: Surroundings
) -> None:
    url = site.add_body("/list.txt", b"http://127.0.0.1:1/a\n")
    first = await post_url(api, url, **{"Idempotency-Key": "k"})
    site.add_body("/list.txt", b"http://127.0.0.1:1/b\n")
    again = await post_url(api, url, **{"Idempotency-Key": "k"})
    other = await post_url(api, f"{url}?2", **{"Idempotency-Key": "k"})
    await surroundings.database.batches.update_one(
        {"_id": first[1]["batch_id"]}, {"$set": {"loaded": False}}
    )
    changed = await post_url(api, url, **{"Idempotency-Key": "k"})

    assert first == again
    assert site.hits["/list.txt"] == 2
    assert (other[0], other[1]["code"]) == (422, "idempotency_key_reused")
    assert (changed[0], changed[1]["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("make", [zip_of, tgz_of])
async def test_members_of_an_archive_are_stored_with_their_source(
    api: aiohttp.ClientSession, site: WebSite, surroundings: Surroundings, make: Any
) -> None:
    content = make(
        {
            "é 1.png": png(1),
            "b.png": png(2),
            "page.png": b"<!doctype html>",
            "../up.png": png(3),
            "truth.csv": "file,text\né 1.png,Où ?\n".encode(),
        }
    )
    url = site.add_body("/scans", content)

    status, submitted = await post_url(api, url)
    batch = await wait_done(api, submitted["batch_id"])

    assert (status, submitted["accepted"]) == (202, 3)
    assert [(row["line"], row["code"]) for row in submitted["rejected"]] == [(4, "unsafe_path")]
    assert (batch["counts"]["stored"], batch["counts"]["failed"]) == (2, 1)
    items = await items_by_url(api, submitted["batch_id"])
    assert items[f"{url}#page.png"]["code"] == "not_an_image"
    info = await surroundings.store.head(items[f"{url}#%C3%A9%201.png"]["key"])
    assert info is not None
    provenance = from_metadata(dict(info.metadata))
    assert (provenance.source_url, provenance.annotation) == (f"{url}#%C3%A9%201.png", "Où ?")
    assert site.hits["/scans"] == 2  # once for its list, once for its members


async def test_archive_that_is_gone_by_the_time_fails_its_items(
    surroundings: Surroundings, site: WebSite
) -> None:
    async def handle(_: web.Request) -> web.Response:
        if site.hits["/scans.zip"] > 1:
            return web.Response(status=404)
        return web.Response(body=zip_of({"a.png": png(1)}))

    async with running_fetcher(surroundings) as api:
        _, submitted = await post_url(api, site.add("/scans.zip", handle))
        await wait_done(api, submitted["batch_id"])
        (item,) = (await items_by_url(api, submitted["batch_id"])).values()
    assert (item["outcome"], item["code"]) == ("failed", "not_found")


async def test_failed_members_of_an_archive_can_be_submitted_again(
    api: aiohttp.ClientSession, site: WebSite
) -> None:
    async def handle(_: web.Request) -> web.Response:
        if site.hits["/scans.zip"] == 2:
            return web.Response(status=404)
        return web.Response(body=zip_of({"x/é 1.png": png(1), "t.csv": b"a.png,b"}))

    url = site.add("/scans.zip", handle)
    _, submitted = await post_url(api, url)
    await wait_done(api, submitted["batch_id"])
    async with api.get(f"/batches/{submitted['batch_id']}/failed.csv") as response:
        failed = await response.read()
    async with api.post("/batches", data=failed, headers={"Content-Type": "text/csv"}) as response:
        again = await response.json()
    batch = await wait_done(api, again["batch_id"])

    assert set(await items_by_url(api, again["batch_id"])) == {f"{url}#x/%C3%A9%201.png"}
    assert batch["counts"]["stored"] == 1


async def test_disk_that_is_full_is_said_so_and_passes(
    api: aiohttp.ClientSession, site: WebSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = site.add_body("/scans.zip", zip_of({"a.png": png(1)}))
    with monkeypatch.context() as patch:
        patch.setattr(spool, "TemporaryFile", partial(Path("/dev/full").open, "w+b"))
        status, problem = await post_url(api, url)

    assert (status, problem["code"]) == (503, "no_space")
    assert (await post_url(api, url))[0] == 202


async def test_two_lists_are_fetched_at_once_and_others_wait(
    api: aiohttp.ClientSession, site: WebSite
) -> None:
    third, arrived = asyncio.Event(), 0

    async def handle(_: web.Request) -> web.Response:
        nonlocal arrived
        arrived += 1
        if arrived == 3:
            third.set()
        early = arrived <= FETCHES_AT_ONCE
        if early:
            with suppress(TimeoutError):
                await asyncio.wait_for(third.wait(), 0.2)
        return web.Response(text=f"http://127.0.0.1:1/{early and third.is_set()}\n")

    urls = [site.add(f"/{number}.txt", handle) for number in range(3)]
    answers = await asyncio.gather(*(post_url(api, url) for url in urls))

    assert [status for status, _ in answers] == [202, 202, 202]
    for _, submitted in answers:
        await wait_done(api, submitted["batch_id"])
        assert set(await items_by_url(api, submitted["batch_id"])) == {"http://127.0.0.1:1/False"}


@pytest.fixture
async def stalled(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[aiohttp.ClientSession, str, list[str]]]:
    """A batch of three pages of which one is published, and no item of it done."""
    monkeypatch.setattr(dispatcher, "MOST_WAITING", 1)
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def handle(_: web.Request) -> web.Response:
        arrived.set()
        await go_on.wait()
        return web.Response(status=404)

    async with (
        open_site() as site,
        running_fetcher(surroundings, host_concurrency=2) as api,
    ):
        urls = [site.add(f"/{number}", handle) for number in range(2 * PAGE_ROWS + 5)]
        batch_id = (await submit(api, *urls))["batch_id"]
        await arrived.wait()

        async def is_resting() -> bool:
            batch = await surroundings.database.batches.find_one({"_id": batch_id})
            return batch is not None and batch["pages"]["next"] == 1

        await eventually(is_resting)
        yield api, batch_id, urls
        go_on.set()


async def test_unpublished_items_are_listed_too_and_in_order(
    stalled: tuple[aiohttp.ClientSession, str, list[str]], surroundings: Surroundings
) -> None:
    api, batch_id, urls = stalled

    assert await surroundings.database.fetches.count({}) == 0
    for outcome in ("", "&outcome=queued"):
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            path = f"/batches/{batch_id}/items?limit=700{outcome}"
            page = await get_json(api, path + (f"&cursor={cursor}" if cursor else ""))
            seen += [item["url"] for item in page["items"]]
            cursor = page["next"]
        assert seen == urls
    batch = await get_json(api, f"/batches/{batch_id}")
    assert batch["counts"]["queued"] == len(urls)
    none = await get_json(api, f"/batches/{batch_id}/items?outcome=cancelled")
    assert none["items"] == []


async def test_unpublished_items_of_a_cancelled_batch_are_cancelled(
    stalled: tuple[aiohttp.ClientSession, str, list[str]], surroundings: Surroundings
) -> None:
    api, batch_id, urls = stalled

    async with api.post(f"/batches/{batch_id}/cancel") as response:
        cancelled = await response.json()

    assert cancelled["counts"]["cancelled"] == len(urls)
    assert cancelled["counts"]["queued"] == 0
    page = await get_json(api, f"/batches/{batch_id}/items?outcome=cancelled&limit=1000")
    assert [item["url"] for item in page["items"]] == urls[:1000]
    assert {item["code"] for item in page["items"]} == {"cancelled"}
    assert await surroundings.database.fetches.count({}) < len(urls)


async def test_page_published_again_after_a_crash_doubles_nothing(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.fetcher.batches.pages.PAGE_ROWS", 50)
    database, count = surroundings.database, 55
    batches = BatchRepository(database.batches)
    expander = Expander(ListPages(database.lists), ItemRepository(database.fetches))
    async with running_fetcher(surroundings) as api:
        # 10.0.0.1 is never connected to
        batch_id = (await submit(api, *["http://10.0.0.1/"] * count))["batch_id"]
        await wait_done(api, batch_id)
        whole = await batches.get(batch_id)
        for position in (0, 1):
            at = whole.having(pages=whole.pages.having(next=position))
            assert await expander.expand_page(at)
        batch = await get_json(api, f"/batches/{batch_id}")
        async with api.post(f"/batches/{batch_id}/retry?scope=all") as response:
            assert (await response.json())["retried"] == count
        again = await wait_done(api, batch_id)

    assert batch["counts"]["failed"] == count
    assert again["counts"]["failed"] == count
    assert batch["finished_at"] < again["finished_at"]
    assert sorted((await batches.get(batch_id)).pages.counted) == [0, 1]
