"""Images that the OCR API is asked to fetch: by the fetcher's rules, with the download's code."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import pytest
from aiohttp import web

from app.service import DOWNLOADS
from services.common.download.settings import DownloadSettings
from tests.support.images import line_image
from tests.support.running_ocr_api import Api, FakeEngine, running_api
from tests.support.waiting import DEADLINE_SECONDS, deadline, until
from tests.support.web import WebSite, open_raw_server

KIB = 1024
LOCAL = DownloadSettings(
    allowed_private_networks=(ip_network("127.0.0.1/32"),),
    idle_timeout_seconds=DEADLINE_SECONDS,
    total_timeout_seconds=DEADLINE_SECONDS,
)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with running_api(FakeEngine, downloads=LOCAL, max_image_bytes=64 * KIB) as api:
        yield api


async def ask(api: Api, url: str) -> tuple[int, dict[str, Any], str | None]:
    async with api.session.post("/predict", json={"url": url}) as response:
        body = await response.json(content_type=None)
        return response.status, body, response.headers.get("Retry-After")


async def test_an_image_is_fetched_and_read(api: Api, site: WebSite) -> None:
    site.add_redirect("/old.png", "/line.png")
    site.add_body("/line.png", line_image("a"))

    status, body, _ = await ask(api, site.url("/old.png"))

    assert (status, body["text"]) == (200, "read")
    assert api.metric("ocr_download_bytes_total") == len(line_image("a"))
    assert api.metric("ocr_download_duration_seconds_count") == 1


async def test_what_can_never_be_fetched_is_refused_with_its_code(api: Api, site: WebSite) -> None:
    site.add_body("/large.png", bytes(65 * KIB))
    site.add_body("/page", b"<html>", content_type="text/html")
    for url, status, code in (
        (site.url("/missing.png"), 422, "not_found"),
        (site.url("/large.png"), 422, "too_large"),
        (site.url("/page"), 415, "unsupported_media_type"),
        ("http://127.0.0.2/line.png", 422, "forbidden_address"),
        ("http://169.254.169.254/latest/meta-data", 422, "forbidden_address"),
        ("file:///etc/passwd", 422, "unsupported_scheme"),
        ("http://user:secret@example.org/", 422, "credentials_in_url"),
        ("", 422, "invalid_request"),
    ):
        answer, body, retry_after = await ask(api, url)
        assert (answer, body["code"], retry_after) == (status, code, None), url
        assert "secret" not in body["detail"]


async def test_silent_host_may_be_asked_again() -> None:
    hasty = LOCAL.model_copy(update={"idle_timeout_seconds": 0.5})
    async with (
        running_api(FakeEngine, downloads=hasty) as api,
        open_raw_server(b"", stays_open=True) as silent,
    ):
        status, body, retry_after = await ask(api, f"{silent}/line.png")
    assert (status, body["code"]) == (504, "timeout")
    assert int(retry_after or 0) >= 1


async def test_what_fails_now_may_be_asked_for_again(api: Api, site: WebSite) -> None:
    site.add_body("/line.png", b"", status=500)
    status, body, retry_after = await ask(api, site.url("/line.png"))
    assert (status, retry_after) == (502, "5")
    assert api.metric("ocr_rejections_total", code=body["code"]) == 1


async def test_slow_hosts_hold_up_other_urls_but_no_sent_image(site: WebSite) -> None:
    go_on = asyncio.Event()

    async def wait(_: web.Request) -> web.Response:
        await go_on.wait()
        return web.Response(body=line_image("a"), content_type="image/png")

    limits: dict[str, Any] = {"max_image_bytes": 64 * KIB, "max_held_bytes": 128 * KIB}
    async with running_api(FakeEngine, downloads=LOCAL, **limits) as api:
        slow = site.add("/slow.png", wait)
        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(ask(api, slow)) for _ in range(DOWNLOADS)]
            await until(lambda: site.hits["/slow.png"] == DOWNLOADS)

            uploaded, _ = await api.predict(line_image("b"))
            async with deadline():
                status, body, retry_after = await ask(api, slow)

            go_on.set()
        assert uploaded == 200
        assert (status, body["code"], retry_after) == (503, "overloaded", "1")
        assert [task.result()[0] for task in asking] == [200] * DOWNLOADS
        assert (await ask(api, slow))[0] == 200


async def test_what_was_fetched_counts_as_held(site: WebSite) -> None:
    async with running_api(FakeEngine, downloads=LOCAL, max_held_bytes=8 * KIB) as api:
        large = site.add_body("/line.png", line_image("a") + bytes(8 * KIB))

        status, body, _ = await ask(api, large)

    assert (status, body["code"]) == (503, "overloaded")
