"""Hostile servers through the whole fetcher: nothing of theirs is stored, all else is."""

import gzip
from contextlib import AsyncExitStack

from aiohttp import web

from services.common.domain.provenance import from_metadata
from tests.support.adversary import OK, Behaviour, flood, open_adversary, reset_after, silence_after
from tests.support.fetcher import Surroundings, items_by_url, running_fetcher, submit, wait_done
from tests.support.web import open_site, png

REDIRECT = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: "
GZIPPED = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
BOMB = gzip.compress(bytes(2**24))
CUT = gzip.compress(png(2))[:-20]
TAGGED = OK + b"X-Robots-Tag: noai\r\nContent-Length: %d\r\n\r\n" % len(png(3)) + png(3)
HOSTILE: dict[str, tuple[Behaviour, str]] = {
    "silent": (silence_after(OK), "timeout"),
    "endless": (flood(OK + b"\r\n", png(4) * 1000), "too_large"),
    "bomb": (GZIPPED % len(BOMB) + BOMB, "too_large"),
    "cut": (GZIPPED % len(CUT) + CUT, "incomplete_body"),
    "short": (OK + b"Content-Length: 9999\r\n\r\n" + png(5), "incomplete_body"),
    "reset": (reset_after(OK + b"Content-Length: 9999\r\n\r\n" + png(6)), "incomplete_body"),
    "page": (OK + b"Content-Type: image/png\r\n\r\n<!doctype html>", "not_an_image"),
    "private": (REDIRECT + b"http://169.254.169.254/latest/\r\n\r\n", "forbidden_address"),
    "mapped": (REDIRECT + b"http://[::ffff:10.0.0.1]/\r\n\r\n", "forbidden_address"),
    "file": (REDIRECT + b"file:///etc/passwd\r\n\r\n", "unsupported_scheme"),
    "loop": (REDIRECT + b"?token=s3cret\r\n\r\n", "too_many_redirects"),
    "tagged": (TAGGED, "robots_tag"),
}


async def test_nothing_of_a_hostile_server_is_stored(surroundings: Surroundings) -> None:
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(
            running_fetcher(surroundings, max_attempts=1, idle_timeout_seconds=5)
        )
        site = await stack.enter_async_context(open_site())
        codes = {
            await stack.enter_async_context(open_adversary(behaviour)) + "/a.png": code
            for behaviour, code in HOSTILE.values()
        }
        closed = await stack.enter_async_context(open_site("127.0.0.2"))
        closed.add_body("/robots.txt", b"User-agent: *\nDisallow: /")
        codes[closed.add_body("/a.png", png(7))] = "robots_disallowed"
        good = site.add_body("/good.png", png(1))

        batch_id = (await submit(api, *codes, good))["batch_id"]
        await wait_done(api, batch_id)
        items = await items_by_url(api, batch_id)

    assert {url: items[url]["code"] for url in codes} == codes
    assert all(items[url]["key"] is None for url in codes)
    assert "s3cret" not in str([item["detail"] for item in items.values()])
    listed = await surroundings.store.client.list_objects_v2(Bucket=surroundings.s3.bucket)
    assert [each["Key"] for each in listed["Contents"]] == [items[good]["key"]]


async def test_source_url_is_kept_without_its_secrets(surroundings: Surroundings) -> None:
    asked: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.query_string)
        return web.Response(body=png(1))

    async with running_fetcher(surroundings) as api, open_site() as site:
        url = site.add("/a.png", handle)
        batch_id = (await submit(api, f"{url}?token=s3cret&b=1"))["batch_id"]
        await wait_done(api, batch_id)
        (item,) = (await items_by_url(api, batch_id)).values()

    assert asked == ["token=s3cret&b=1"]
    info = (await surroundings.store.read(item["key"], max_bytes=10_000)).info
    assert from_metadata(dict(info.metadata)).source_url == f"{url}?token=REDACTED&b=1"
