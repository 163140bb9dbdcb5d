"""Batches: retried, cancelled, sent again, shown page by page, followed, and counted."""

import asyncio
import csv
import json
from io import StringIO

import aiohttp
import pytest
from aiohttp import web

from services.fetcher.batches.repository import UNCOUNTED
from tests.support.fetcher import (
    Surroundings,
    get_json,
    items_by_url,
    post_list,
    running_fetcher,
    submit,
    wait_done,
)
from tests.support.waiting import deadline
from tests.support.web import WebSite, png


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


async def test_retry_takes_transient_failures_or_all_if_told_so(
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
        async with deadline():
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


async def test_idempotency_key_gives_one_batch_for_the_same_list(
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


async def test_submission_cut_off_by_a_crash_can_be_repeated(
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
        problem = await response.json()
    assert (response.status, problem["code"]) == (422, "invalid_request")
    assert problem["detail"].startswith("query.cursor: ")
    assert problem["detail"].endswith(f", not {f'{batch_id}/{number}'[:100]!r}")


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


async def test_only_health_and_metrics_answer_without_the_token(surroundings: Surroundings) -> None:
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
