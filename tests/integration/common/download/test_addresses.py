"""No way leads to an address that may not be reached: redirects, spellings, names, certificates."""

import datetime as dt
import socket
import ssl
from ipaddress import ip_network
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from services.common.download.client import open_downloader
from services.common.download.errors import RefusedDownloadError
from tests.support.adversary import (
    GOOD,
    HOSTILE,
    INNER,
    Names,
    open_adversary,
    outcome,
    strict_settings,
)
from tests.support.web import open_site, png

IMAGE = png(1)
OK_IMAGE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(IMAGE) + IMAGE
FORBIDDEN_HOSTS = [
    *("127.0.0.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1"),
    *("169.254.169.254", "192.0.2.1", "198.18.0.1", "224.0.0.1", "255.255.255.255", "localhost"),
    *("[::]", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]"),
    *("[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[fe80::1]", "[fd00::1]"),
    *("[fc00::1]", "[ff02::1]", "[2001:db8::1]", "[fd00:ec2::254]", "①②⑦.⓪.⓪.①", "127。0。0。1"),
]
NO_HOSTS = [
    *("2130706433", "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1", "127.1", "127.0.1", "0"),
    *("127.0.0.1.", "127.0.0.0x1", "[::1%lo]", "[::1", "::1", "127.0.0.1:", "1.2.3.4.5"),
    *("%31%32%37.0.0.1", "127.0.0.1%00.x.test", "127.0.0.1%2f"),
]
SCHEMES = [
    *("file:///etc/passwd", "ftp://127.0.0.66/a", "gopher://127.0.0.66:70/_x", "ws://127.0.0.66/"),
    *("data:image/png;base64,iVBORw0KGgo=", "javascript:alert(1)", "jar:http://127.0.0.66!/a"),
    *("dict://127.0.0.66:11211/stats", "ldap://127.0.0.66/", "netdoc:///etc/passwd"),
]
TARGETS = {
    **{f"http://{host}{{port}}/": "forbidden_address" for host in FORBIDDEN_HOSTS},
    **dict.fromkeys(SCHEMES, "unsupported_scheme"),
    "http://user:secret@127.0.0.66/": "credentials_in_url",
    "http://127.0.0.66@127.0.0.1/": "credentials_in_url",
    "//127.0.0.1{port}/": "forbidden_address",
    # paths of the same host, which redirects for ever
    **dict.fromkeys(["\\\\127.0.0.1{port}\\", "http:/127.0.0.1/"], "too_many_redirects"),
    **dict.fromkeys(["http:///127.0.0.1", "http://", "again", "/%00"], "too_many_redirects"),
    "http://127.0.0.66:0/": "bad_redirect",
    "http://127.0.0.66:99999/": "bad_redirect",
    "http://127.0.0.66:x/": "bad_redirect",
    "": "bad_redirect",
    "http://127.0.0.66/" + "a" * 8000: "url_too_long",
}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_every_kind_of_redirect_is_checked(status: int) -> None:
    answer = b"HTTP/1.1 %d Go\r\nLocation: http://169.254.169.254/\r\n\r\n" % status
    async with (
        open_downloader(strict_settings(), connections=2) as downloader,
        open_adversary(answer) as hostile,
    ):
        assert await outcome(downloader, f"{hostile}/a") == "forbidden_address"


@pytest.mark.parametrize(("target", "code"), TARGETS.items(), ids=list(TARGETS))
async def test_redirect_to_a_forbidden_place_has_its_code(target: str, code: str) -> None:
    async with open_site(INNER) as inner, open_site(GOOD) as site:
        port = inner.base_url.rpartition(":")[2]
        inner.add_body("/", IMAGE)
        location = target.replace("{port}", f":{port}").encode()
        answer = b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n"
        async with (
            open_downloader(strict_settings(), connections=2) as downloader,
            open_adversary(answer) as hostile,
        ):
            found = await outcome(downloader, f"{hostile}/again")

            assert await outcome(downloader, site.add_body("/good", IMAGE)) == "image"

    assert found == code
    assert not inner.hits


@pytest.mark.parametrize("host", [*FORBIDDEN_HOSTS, *NO_HOSTS])
async def test_forbidden_address_is_refused_in_every_spelling(host: str) -> None:
    async with (
        open_site(INNER) as inner,
        open_downloader(strict_settings(), connections=2) as downloader,
    ):
        inner.add_body("/", IMAGE)
        port = inner.base_url.rpartition(":")[2]

        code = await outcome(downloader, f"http://{host}:{port}/")

    assert code == ("forbidden_address" if host in FORBIDDEN_HOSTS else "invalid_url")
    assert not inner.hits


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([["127.0.0.1"]], "forbidden_address"),
        ([["10.0.0.1", "169.254.169.254", "::1"]], "forbidden_address"),
        ([["::ffff:127.0.0.1"]], "forbidden_address"),
        ([["127.0.0.1", HOSTILE]], "image"),  # the first is passed over, not connected to
        ([socket.gaierror(socket.EAI_NODATA, "no address")], "dns_failure"),
        ([["no address"]], "forbidden_address"),
        ([None], "timeout"),
    ],
    ids=["private", "all private", "mapped", "mixed", "none", "garbage", "silent"],
)
async def test_resolved_addresses_are_checked_when_connecting(
    answers: list[list[str] | OSError | None], code: str
) -> None:
    names = Names({"name.test": answers})
    settings = strict_settings(patient=code != "timeout")
    async with (
        open_site(INNER) as inner,
        open_adversary(OK_IMAGE) as hostile,
        open_downloader(settings, connections=2, resolver=names) as downloader,
    ):
        port = hostile.rpartition(":")[2]
        assert await outcome(downloader, f"http://name.test:{port}/") == code
        assert not inner.hits
        assert await outcome(downloader, f"{hostile}/") == "image"


async def test_rebinding_name_is_checked_again_at_each_new_connection() -> None:
    names = Names({"turns.test": [[HOSTILE], [INNER]]})
    away = b"HTTP/1.1 302 Found\r\nLocation: http://TURNS.test:%d/\r\nConnection: close\r\n\r\n"
    async with open_site(INNER) as inner:
        port = int(inner.base_url.rpartition(":")[2])
        async with (
            open_adversary(away % port) as hostile,
            open_downloader(strict_settings(), connections=2, resolver=names) as downloader,
        ):
            own = hostile.rpartition(":")[2]
            code = await outcome(downloader, f"http://turns.test:{own}/")

    assert code == "forbidden_address"
    assert not inner.hits


async def test_secrets_of_a_redirect_are_in_no_detail() -> None:
    for location in (
        b"ftp://user:s3cret@x.test/?token=s3cret",
        b"http://x.test:port/?token=s3cret",
        b"http://user:s3cret@[::1/?token=s3cret",
        b"http://x y?token=s3cret",
        b"http://x.test/?token=s3cret\0",
    ):
        answer = b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\n\r\n"
        async with (
            open_downloader(strict_settings(), connections=1) as downloader,
            open_adversary(answer) as hostile,
        ):
            with pytest.raises(RefusedDownloadError) as caught:
                await downloader.get(f"{hostile}/?token=s3cret")
        assert "s3cret" not in str(caught.value)
        assert "s3cret" not in caught.value.detail


async def test_secrets_of_a_url_are_not_in_the_detail_of_a_bad_answer() -> None:
    async with (
        open_downloader(strict_settings(), connections=1) as downloader,
        open_adversary(b"SSH-2.0\r\n") as hostile,
    ):
        with pytest.raises(RefusedDownloadError) as caught:
            await downloader.get(f"{hostile}/?token=s3cret")

    assert caught.value.code == "invalid_response"
    assert hostile not in caught.value.detail


def certificate(authority: trustme.CA, kind: str) -> trustme.LeafCert:
    if kind == "for another host":
        return authority.issue_cert("other.test")
    if kind == "expired":
        past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        return authority.issue_cert(HOSTILE, not_before=past, not_after=past)
    if kind == "of an unknown authority":
        return trustme.CA().issue_cert(HOSTILE)
    return authority.issue_cert(HOSTILE)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("good", "image"),
        ("for another host", "tls_error"),
        ("expired", "tls_error"),
        ("of an unknown authority", "tls_error"),
    ],
)
async def test_certificate_is_checked(kind: str, code: str) -> None:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    certificate(authority, kind).configure_cert(server)
    authority.configure_trust(client)
    async with (
        open_adversary(OK_IMAGE, ssl=server) as hostile,
        open_site(GOOD) as site,
        open_downloader(strict_settings(), connections=2, tls=client) as downloader,
    ):
        assert await outcome(downloader, f"{hostile}/a") == code
        assert await outcome(downloader, site.add_body("/good", IMAGE)) == "image"


async def test_password_file_of_the_user_is_not_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[str] = []
    rules = tmp_path / "netrc"
    rules.write_text(f"machine {GOOD} login me password s3cret\n")
    monkeypatch.setenv("NETRC", str(rules))
    own = strict_settings(allowed_private_networks=(ip_network(f"{GOOD}/32"),))
    async with open_site(GOOD) as site, open_downloader(own, connections=1) as downloader:

        async def handle(request: web.Request) -> web.Response:
            seen.extend(request.headers)
            return web.Response(body=IMAGE)

        assert await outcome(downloader, site.add("/a", handle)) == "image"

    assert seen
    assert not {"Authorization", "Cookie", "Referer", "Proxy-Authorization"} & set(seen)
