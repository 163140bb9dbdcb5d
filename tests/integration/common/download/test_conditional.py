"""Asking for news only: ETag, Last-Modified and 304, and what else an answer's headers tell."""

import pytest
from aiohttp import web

from services.common.download.client import Downloader
from services.common.download.errors import FailedDownloadError, RefusedDownloadError
from services.common.download.responses import NotModifiedError, Validators
from tests.support.adversary import LIMIT_BYTES
from tests.support.web import WebSite, open_site

DATE = "Thu, 01 Jan 2026 11:00:00 GMT"


class Resource:
    """Answers 304 to clients with a current validator.

    Attributes:
        conditions: Headers of each request that made it conditional.
    """

    def __init__(self, etag: str, last_modified: str = DATE) -> None:
        self.etag = etag
        self.last_modified = last_modified
        self.conditions: list[dict[str, str]] = []

    async def handle(self, request: web.Request) -> web.Response:
        sent = {
            name: request.headers[name]
            for name in ("If-None-Match", "If-Modified-Since")
            if name in request.headers
        }
        self.conditions.append(sent)
        headers = {"ETag": self.etag, "Last-Modified": self.last_modified}
        is_known = self.etag in sent.values() or self.last_modified in sent.values()
        return web.Response(status=304 if is_known else 200, body=b"x", headers=headers)


@pytest.mark.parametrize("etag", ['"strong"', 'W/"weak"'])
async def test_second_download_of_the_same_is_not_modified(
    site: WebSite, downloader: Downloader, etag: str
) -> None:
    resource = Resource(etag)
    url = site.add("/a", resource.handle)
    first = await downloader.get(url)
    assert (first.etag, first.last_modified, first.final_url) == (etag, DATE, url)

    with pytest.raises(NotModifiedError) as caught:
        await downloader.get(url, validators=first.validators)

    assert caught.value.http_status == 304
    assert caught.value.validators == first.validators
    assert resource.conditions[1] == {"If-None-Match": etag, "If-Modified-Since": DATE}


async def test_changed_resource_is_downloaded_again(site: WebSite, downloader: Downloader) -> None:
    resource = Resource('"one"')
    url = site.add("/a", resource.handle)
    first = await downloader.get(url)
    resource.etag, resource.last_modified = '"two"', "Fri, 02 Jan 2026 11:00:00 GMT"

    second = await downloader.get(url, validators=first.validators)

    assert (second.content, second.etag) == (b"x", '"two"')


async def test_validators_are_sent_only_to_the_url_they_came_from(
    site: WebSite, downloader: Downloader
) -> None:
    first_hop, last_hop = Resource('"hop"'), Resource('"end"')
    async with open_site("127.0.0.2") as other:
        end = other.add("/end", last_hop.handle)

        async def redirect(request: web.Request) -> web.Response:
            await first_hop.handle(request)
            return web.Response(status=302, headers={"Location": end})

        url = site.add("/a", redirect)
        download = await downloader.get(url)
        assert download.final_url == end
        with pytest.raises(NotModifiedError):
            await downloader.get(url, validators=download.validators)

    assert first_hop.conditions == [{}, {}]
    assert last_hop.conditions[1]["If-None-Match"] == '"end"'


async def test_validators_of_unknown_origin_never_reach_another_host(
    site: WebSite, downloader: Downloader
) -> None:
    resource = Resource('"end"')
    async with open_site("127.0.0.2") as other:
        url = site.add_redirect("/a", other.add("/end", resource.handle))

        download = await downloader.get(url, validators=Validators('"end"', DATE))

    assert download.content == b"x"
    assert resource.conditions == [{}]


@pytest.mark.parametrize(
    ("etag", "last_modified"),
    [("no quotes", "yesterday"), ('"' + "x" * 4000 + '"', DATE + " "), ('"é"', "x" * 4000)],
)
async def test_validators_that_no_host_may_send_are_not_kept(
    site: WebSite, downloader: Downloader, etag: str, last_modified: str
) -> None:
    async def handle(_: web.Request) -> web.Response:
        headers = {"ETag": etag, "Last-Modified": last_modified}
        return web.Response(body=b"x", headers={k: v.strip() for k, v in headers.items()})

    download = await downloader.get(site.add("/a", handle))

    assert download.etag is None
    assert download.last_modified in {None, DATE}


async def test_later_opt_out_is_refused_even_if_not_modified(
    site: WebSite, downloader: Downloader
) -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(status=304, headers={"X-Robots-Tag": "noai"})

    with pytest.raises(RefusedDownloadError) as caught:
        await downloader.get(site.add("/a", handle), validators=Validators('"a"'))

    assert caught.value.code == "robots_tag"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_host_says_how_long_it_wants_to_be_left_alone(
    site: WebSite, downloader: Downloader, status: int
) -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": "7"})

    with pytest.raises(FailedDownloadError) as caught:
        await downloader.get(site.add("/a", handle))

    assert caught.value.retry_after_seconds == 7


async def test_limit_may_be_set_for_one_download(site: WebSite, downloader: Downloader) -> None:
    size = 2 * LIMIT_BYTES
    url = site.add_body("/a", b"x" * size)

    assert len((await downloader.get(url, max_bytes=size)).content) == size
    with pytest.raises(RefusedDownloadError) as caught:
        await downloader.get(url)
    assert caught.value.code == "too_large"


async def test_stream_gives_what_the_host_says_and_the_body_in_pieces(
    site: WebSite, downloader: Downloader
) -> None:
    end = site.add_body("/list", b"x" * 200_000, content_type="text/csv")

    async with downloader.stream(site.add_redirect("/a", end), max_bytes=200_000) as body:
        assert (body.http_status, body.content_type) == (200, "text/csv")
        assert body.final_url == end
        pieces = [piece async for piece in body]

    assert len(pieces) > 1
    assert b"".join(pieces) == b"x" * 200_000


async def test_stream_over_its_limit_is_cut_off(site: WebSite, downloader: Downloader) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    content = bytearray()

    async def read(url: str) -> None:
        async with downloader.stream(url, max_bytes=200_000) as body:
            async for piece in body:
                content.extend(piece)

    with pytest.raises(RefusedDownloadError) as caught:
        await read(site.add("/a", handle))

    assert caught.value.code == "too_large"
    assert len(content) <= 200_000
