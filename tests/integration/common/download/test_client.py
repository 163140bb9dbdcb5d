"""The downloader against web servers on loopback, well-behaved and not."""

import socket
from urllib.parse import unquote

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from infra.local.ports import pick_free_ports
from services.common.download.client import Downloader, open_downloader
from services.common.download.errors import FailedDownloadError, RefusedDownloadError
from tests.support.adversary import LIMIT_BYTES, Names, failure, loopback_settings
from tests.support.web import WebSite, open_raw_server


async def test_body_arrives_whole_with_what_the_host_calls_it(
    site: WebSite, downloader: Downloader
) -> None:
    url = site.add_body("/a b", b"x" * LIMIT_BYTES, content_type="text/html")

    download = await downloader.get(url.replace(" ", "%20"))

    assert download.content == b"x" * LIMIT_BYTES
    assert (download.http_status, download.content_type) == (200, "text/html")


async def test_host_is_told_who_asks_and_no_cookie_is_ever_sent(site: WebSite) -> None:
    seen: list[web.Request] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request)
        response = web.Response(body=b"x")
        response.set_cookie("track", "me")
        return response

    url = site.add("/", handle)
    named = loopback_settings(user_agent="robot/1", contact="https://us.test/robot")
    async with open_downloader(named, connections=1) as downloader:
        await downloader.get(url)
        await downloader.get(url)

    assert [request.headers["User-Agent"] for request in seen] == [
        "robot/1 (+https://us.test/robot)"
    ] * 2
    assert not any("Cookie" in request.headers for request in seen)


SIGNED = "/sig=/300x/http%3A%2F%2Fo.test%2Fa%27(b).jpg?Signature=a%2Bb%3D&c=%7e"


async def test_host_sees_the_url_as_it_was_written(site: WebSite, downloader: Downloader) -> None:
    seen: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request.raw_path)
        return web.Response(body=b"x")

    site.add(unquote(SIGNED.partition("?")[0]), handle)
    site.add_redirect("/away", SIGNED)

    await downloader.get(site.url(SIGNED))
    await downloader.get(site.url("/away"))

    assert seen == [SIGNED, SIGNED]


async def test_bytes_of_a_redirect_that_are_no_utf8_are_followed(
    site: WebSite, downloader: Downloader
) -> None:
    seen: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request.raw_path)
        return web.Response(body=b"x")

    site.add("/caf%E9.png", handle)
    location = b"Location: " + site.url("/caf").encode() + b"\xe9.png\r\n"
    answer = b"HTTP/1.1 302 Found\r\n" + location + b"Content-Length: 0\r\n\r\n"
    async with open_raw_server(answer) as url:
        await downloader.get(url)

    assert seen == ["/caf%E9.png"]


async def test_only_formats_that_are_read_are_asked_for(
    site: WebSite, downloader: Downloader
) -> None:
    asked: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.headers["Accept"])
        return web.Response(body=b"x")

    await downloader.get(site.add("/", handle))

    assert "image/png" in asked[0]
    assert "image/*" not in asked[0]


@pytest.mark.parametrize("status", [403, 413])
async def test_refusal_that_says_when_to_come_back_is_a_rate_limit(
    site: WebSite, downloader: Downloader, status: int
) -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": "7"})

    error = await failure(downloader, site.add("/", handle))

    assert isinstance(error, FailedDownloadError)
    assert (error.code, error.retry_after_seconds) == ("rate_limited", 7.0)


async def test_proxy_of_the_environment_is_not_used(
    site: WebSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with open_downloader(loopback_settings(), connections=1) as downloader:
        assert (await downloader.get(site.add_body("/a", b"x"))).content == b"x"


@pytest.mark.parametrize(
    ("status", "code", "may_pass"),
    [
        (202, "host_not_ready", True),
        (204, "empty_body", False),
        (206, "unexpected_status", False),
        (304, "unexpected_status", False),
        (400, "http_client_error", False),
        (401, "forbidden", False),
        (403, "forbidden", False),
        (404, "not_found", False),
        (408, "host_not_ready", True),
        (410, "gone", False),
        (418, "http_client_error", False),
        (423, "host_not_ready", True),
        (425, "host_not_ready", True),
        (429, "rate_limited", True),
        (451, "forbidden", False),
        (500, "http_server_error", True),
        (503, "http_server_error", True),
    ],
)
async def test_status_has_a_code_and_is_retried_only_if_useful(
    site: WebSite, downloader: Downloader, *, status: int, code: str, may_pass: bool
) -> None:
    error = await failure(downloader, site.add_body("/a", b"", status=status))

    assert (error.code, error.http_status) == (code, status)
    assert isinstance(error, FailedDownloadError) is may_pass


async def test_redirects_are_followed_up_to_the_limit(
    site: WebSite, downloader: Downloader
) -> None:
    site.add_body("/end", b"x")
    site.add_redirect("/2", "end", status=301)
    site.add_redirect("/1", "/2", status=308)
    first = site.add_redirect("/0", site.url("/1"))

    assert (await downloader.get(first)).content == b"x"

    one_too_many = site.add_redirect("/start", "/0")
    assert (await failure(downloader, one_too_many)).code == "too_many_redirects"
    assert site.hits["/end"] == 1


async def test_redirect_loop_ends(site: WebSite, downloader: Downloader) -> None:
    url = site.add_redirect("/a", "/a")

    assert (await failure(downloader, url)).code == "too_many_redirects"
    assert site.hits["/a"] == 4


async def test_name_with_only_forbidden_addresses_is_refused() -> None:
    resolver = Names({"name.test": [["10.0.0.1", "192.168.0.1", "169.254.169.254"]]})
    with capture_logs() as logs:
        async with open_downloader(
            loopback_settings(), connections=2, resolver=resolver
        ) as downloader:
            error = await failure(downloader, "http://name.test/")

    assert error.code == "forbidden_address"
    # the address of an internal name is not disclosed
    assert error.detail == "name.test is not at a public address"
    assert any(each.get("address") == "169.254.169.254" for each in logs)


async def test_refused_connection_error_names_no_private_address() -> None:
    port = pick_free_ports().fetcher_port
    resolver = Names({"name.test": [["127.0.0.1", "127.0.0.2"]]})
    async with open_downloader(loopback_settings(), connections=2, resolver=resolver) as downloader:
        error = await failure(downloader, f"http://name.test:{port}/")

    assert error.code == "connection_failed"
    assert "127.0.0" not in error.detail


@pytest.mark.parametrize(
    ("number", "kind"),
    [(socket.EAI_NONAME, RefusedDownloadError), (socket.EAI_AGAIN, FailedDownloadError)],
)
async def test_unknown_name_is_final_and_a_silent_resolver_is_not(
    number: int, kind: type[Exception]
) -> None:
    resolver = Names({"name.test": [socket.gaierror(number, "no answer")]})
    async with open_downloader(loopback_settings(), connections=2, resolver=resolver) as downloader:
        error = await failure(downloader, "http://name.test/")

    assert error.code == "dns_failure"
    assert isinstance(error, kind)


async def test_closed_port_fails_to_connect(downloader: Downloader) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = await failure(downloader, f"http://127.0.0.1:{unused.getsockname()[1]}/")

    assert error.code == "connection_failed"
    assert isinstance(error, FailedDownloadError)


async def test_plain_http_server_is_no_trusted_tls_server(
    site: WebSite, downloader: Downloader
) -> None:
    error = await failure(downloader, site.url("/").replace("http:", "https:"))

    assert error.code == "tls_error"
    assert "handshake failed" in error.detail
