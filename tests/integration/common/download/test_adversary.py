"""Responses of hostile servers: each ends in its code, in time, without effect on the next."""

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from services.common.download.client import Downloader, open_downloader
from tests.support.adversary import (
    GOOD,
    LIMIT_BYTES,
    OK,
    Behaviour,
    drip,
    flood,
    open_adversary,
    outcome,
    reset_after,
    silence_after,
    strict_settings,
)
from tests.support.waiting import deadline, eventually
from tests.support.web import open_site, png

CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BOMB = gzip.compress(bytes(64 * 1024 * 1024))
IMAGE = png(1)


def body(content: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = (b"HTTP/1.1 " + status, b"Content-Length: %d" % len(content), *headers)
    return b"\r\n".join(lines) + b"\r\n\r\n" + content


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(content) + packer.flush()


SLOW: dict[str, tuple[Behaviour, str]] = {
    "says nothing": (silence_after(b""), "timeout"),
    "stops within the status line": (silence_after(b"HTTP/1."), "timeout"),
    "stops within the headers": (silence_after(OK + b"X: "), "timeout"),
    "stops before the body": (silence_after(OK + b"Content-Length: 9\r\n\r\n"), "timeout"),
    "stops within the body": (silence_after(OK + b"Content-Length: 9\r\n\r\nx"), "timeout"),
    "stops within a chunk": (silence_after(CHUNKED + b"ff\r\nx"), "timeout"),
    "stops before the last chunk": (silence_after(CHUNKED + b"1\r\nx\r\n"), "timeout"),
    "drips the status line": (drip(b"HTTP/1.1 200 ", b"O"), "timeout"),
    "drips headers": (drip(OK, b"X: y\r\n"), "timeout"),
    "drips one header": (drip(OK + b"X: ", b"y"), "timeout"),
    "drips a body": (drip(OK + b"\r\n", b"x"), "timeout"),
    "drips chunks": (drip(CHUNKED, b"1\r\nx\r\n"), "timeout"),
    "drips a gzip body": (
        drip(OK + b"Content-Encoding: gzip\r\n\r\n" + BOMB[:10], b"\0\0\0\xff\xff"),
        "timeout",
    ),
    "drips 100 Continue": (drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "timeout"),
}
ENDLESS: dict[str, tuple[Behaviour, str]] = {
    "body": (flood(OK + b"\r\n", b"x" * 65536), "too_large"),
    "chunks": (flood(CHUNKED, b"400\r\n" + b"x" * 1024 + b"\r\n"), "too_large"),
    "chunk extensions": (flood(CHUNKED + b"1", b";x=" + b"y" * 60000), "timeout"),
    "trailers": (flood(CHUNKED + b"1\r\nx\r\n0\r\n", b"X: y\r\n" * 1000), "invalid_response"),
    "headers": (flood(OK, b"X: y\r\n" * 1000), "invalid_response"),
    "header": (flood(OK + b"X: ", b"y" * 65536), "invalid_response"),
    "header name": (flood(OK, b"y" * 65536), "invalid_response"),
    "status line": (flood(b"HTTP/1.1 200 ", b"O" * 65536), "invalid_response"),
    "1xx storm": (flood(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 100), "timeout"),
    "early hints": (flood(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), "timeout"),
    "spaces": (flood(b"", b" " * 65536), "invalid_response"),
    "line ends": (flood(b"", b"\r\n" * 32768), "timeout"),
    "zeros": (flood(b"", bytes(65536)), "invalid_response"),
}
PACKED: dict[str, tuple[Behaviour, str]] = {
    "gzip bomb": (body(BOMB, b"Content-Encoding: gzip"), "too_large"),
    "x-gzip bomb": (body(BOMB, b"Content-Encoding: x-gzip"), "too_large"),
    "deflate bomb": (
        body(zlib.compress(bytes(2**26)), b"Content-Encoding: deflate"),
        "too_large",
    ),
    "raw deflate bomb": (body(deflated(bytes(2**26)), b"Content-Encoding: deflate"), "too_large"),
    "many gzip members": (
        body(gzip.compress(bytes(9)) * 1000, b"Content-Encoding: gzip"),
        "incomplete_body",
    ),
    "twice gzipped bomb": (
        body(gzip.compress(BOMB), b"Content-Encoding: gzip, gzip"),
        "unsupported_encoding",
    ),
    "deflate cut short": (
        body(zlib.compress(IMAGE)[:-4], b"Content-Encoding: deflate"),
        "incomplete_body",
    ),
    "more behind the gzip": (
        body(gzip.compress(IMAGE) + b"more", b"Content-Encoding: gzip"),
        "incomplete_body",
    ),
    "endless nothing": (
        flood(OK + b"Content-Encoding: deflate\r\n\r\n\x78\x9c", b"\0\0\0\xff\xff" * 9999),
        "too_large",
    ),
    "packed as it should be": (body(gzip.compress(IMAGE), b"Content-Encoding: gzip"), "image"),
    "brotli": (body(b"\x8b\x00\x80x\x03", b"Content-Encoding: br"), "unsupported_encoding"),
    "broken gzip": (body(BOMB[:10] + b"nope", b"Content-Encoding: gzip"), "incomplete_body"),
    "no gzip": (body(IMAGE, b"Content-Encoding: gzip"), "image"),
    "no gzip, no image": (body(b"nothing", b"Content-Encoding: gzip"), "incomplete_body"),
    "kept from an upload to S3": (body(IMAGE, b"Content-Encoding: aws-chunked"), "image"),
    "gzip and what is kept from an upload": (
        body(gzip.compress(IMAGE), b"Content-Encoding: gzip,aws-chunked"),
        "image",
    ),
    "character set": (body(IMAGE, b"Content-Encoding: UTF-8"), "image"),
    "character set of a text": (body(b"<html>", b"Content-Encoding: UTF-8"), "not_an_image"),
    "brotli that is none": (body(IMAGE, b"Content-Encoding: br"), "image"),
    "gzip cut short": (
        body(gzip.compress(IMAGE)[:-20], b"Content-Encoding: gzip"),
        "incomplete_body",
    ),
    "unknown encoding": (body(b"\1x", b"Content-Encoding: \xff, magic"), "unsupported_encoding"),
}
LENGTHS: dict[str, tuple[Behaviour, str]] = {
    "short": (OK + b"Content-Length: 100\r\n\r\nx", "incomplete_body"),
    "long": (OK + b"Content-Length: 5\r\n\r\n" + IMAGE, "invalid_response"),
    "negative": (OK + b"Content-Length: -5\r\n\r\nx", "invalid_response"),
    "signed": (OK + b"Content-Length: +5\r\n\r\nxxxxx", "invalid_response"),
    "hexadecimal": (OK + b"Content-Length: 0x5\r\n\r\nxxxxx", "invalid_response"),
    "huge": (OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nx", "invalid_response"),
    "large": (OK + b"Content-Length: 999999999999\r\n\r\nx", "too_large"),
    "empty": (OK + b"Content-Length: \r\n\r\nx", "invalid_response"),
    "list": (OK + b"Content-Length: 1, 1\r\n\r\nx", "invalid_response"),
    "two that differ": (
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "invalid_response",
    ),
    "two alike": (OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", "invalid_response"),
    "chunked besides": (
        OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        "invalid_response",
    ),
    "chunk that is no number": (CHUNKED + b"zz\r\nx\r\n", "invalid_response"),
    "negative chunk": (CHUNKED + b"-1\r\nx\r\n", "invalid_response"),
    "huge chunk": (CHUNKED + b"f" * 40 + b"\r\nx\r\n", "invalid_response"),
    "chunk longer than told": (CHUNKED + b"1\r\nxxxxx\r\n0\r\n\r\n", "invalid_response"),
    "no last chunk": (CHUNKED + b"1\r\nx\r\n", "incomplete_body"),
    "chunked twice": (
        OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        "not_an_image",
    ),
    "hidden chunked": (OK + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", "not_an_image"),
}
PROTOCOL: dict[str, tuple[Behaviour, str]] = {
    "nothing": (b"", "connection_failed"),
    "HTTP/0.9": (b"<html>hello</html>", "invalid_response"),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n", "invalid_response"),
    "a TLS alert": (b"\x15\x03\x01\x00\x02\x02\x28", "invalid_response"),
    "status that is no number": (b"HTTP/1.1 abc OK\r\n\r\n", "invalid_response"),
    "status of one digit": (b"HTTP/1.1 2 OK\r\n\r\n", "invalid_response"),
    "status beyond all": (b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n", "http_server_error"),
    "status 0": (b"HTTP/1.1 000 \r\nContent-Length: 0\r\n\r\n", "unexpected_status"),
    "version 9.9": (b"HTTP/9.9 200 OK\r\nContent-Length: 1\r\n\r\nx", "invalid_response"),
    "NUL in a header": (OK + b"X: a\0b\r\n\r\n", "invalid_response"),
    "NUL in a name": (OK + b"X\0: a\r\n\r\n", "invalid_response"),
    "space in a name": (OK + b"X Y: a\r\n\r\n", "invalid_response"),
    "folded header": (OK + b"X: a\r\n b\r\nContent-Length: 1\r\n\r\nx", "not_an_image"),
    "bare line feed": (b"HTTP/1.1 200 OK\nX: a\n\nx", "not_an_image"),
    "header that is no text": (body(b"x", b"Content-Type: \xff\xfe\x80"), "not_an_image"),
    "ends within the headers": (OK + b"X: y\r\n", "connection_failed"),
    "reset at once": (reset_after(b""), "connection_failed"),
    "reset within the headers": (reset_after(OK), "connection_failed"),
    "reset within the body": (reset_after(OK + b"Content-Length: 9\r\n\r\nx"), "incomplete_body"),
    "switches protocols": (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\nx",
        "unexpected_status",
    ),
    "continues, then ends": (b"HTTP/1.1 100 Continue\r\n\r\n", "connection_failed"),
    "second answer besides": (body(b"x") + body(IMAGE), "not_an_image"),
}
CONTENT: dict[str, tuple[Behaviour, str]] = {
    "HTML as PNG": (body(b"<!doctype html><p>", b"Content-Type: image/png"), "not_an_image"),
    "SVG": (body(b"<svg xmlns='x'/>", b"Content-Type: image/svg+xml"), "not_an_image"),
    "PDF as JPEG": (body(b"%PDF-1.7\n", b"Content-Type: image/jpeg"), "not_an_image"),
    "PostScript as PNG": (body(b"%!PS-Adobe-3.0\n", b"Content-Type: image/png"), "not_an_image"),
    "zip as PNG": (body(b"PK\x03\x04" + bytes(99), b"Content-Type: image/png"), "not_an_image"),
    "start of a PNG alone": (body(b"\x89PNG\r\n\x1a\n"), "not_an_image"),
    "nothing": (body(b""), "empty_body"),
    "nothing, in chunks": (CHUNKED + b"0\r\n\r\n", "empty_body"),
    "nothing, gzipped": (body(gzip.compress(b""), b"Content-Encoding: gzip"), "empty_body"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", "empty_body"),
    "205": (body(b"", status=b"205 Reset Content"), "empty_body"),
    "206 unrequested": (body(IMAGE, status=b"206 Partial Content"), "unexpected_status"),
    "304 unrequested": (b"HTTP/1.1 304 Not Modified\r\n\r\n", "unexpected_status"),
    "300": (body(b"x", status=b"300 Multiple Choices"), "unexpected_status"),
    "429 for ever": (
        body(b"", b"Retry-After: 99999999999999", status=b"429 Too Many Requests"),
        "rate_limited",
    ),
    "503 until nonsense": (
        body(b"", b"Retry-After: \xff\xfe", status=b"503 Down"),
        "http_server_error",
    ),
    "tagged noai": (body(IMAGE, b"X-Robots-Tag: noai"), "robots_tag"),
    "endless 404": (flood(b"HTTP/1.1 404 Not Found\r\n\r\n", b"x" * 65536), "not_found"),
    "endless 500": (flood(b"HTTP/1.1 500 Error\r\n\r\n", b"x" * 65536), "http_server_error"),
}
CASES = {
    f"{group}: {name}": case
    for group, cases in {
        "slow": SLOW,
        "endless": ENDLESS,
        "packed": PACKED,
        "length": LENGTHS,
        "protocol": PROTOCOL,
        "content": CONTENT,
    }.items()
    for name, case in cases.items()
}


HANGING = {name: behaviour for name, (behaviour, code) in CASES.items() if code == "timeout"}
ENDING = {name: case for name, case in CASES.items() if name not in HANGING}


@pytest.fixture
async def downloader() -> AsyncIterator[Downloader]:
    async with open_downloader(strict_settings(), connections=2) as downloader:
        yield downloader


@pytest.mark.parametrize(("behaviour", "code"), ENDING.values(), ids=ENDING)
async def test_hostile_answer_has_its_code_and_harms_no_other(
    downloader: Downloader, behaviour: Behaviour, code: str
) -> None:
    async with open_adversary(behaviour) as hostile, open_site(GOOD) as site:
        good = site.add_body("/good", IMAGE)

        assert await outcome(downloader, f"{hostile}/a.png") == code
        assert await outcome(downloader, good) == "image"


async def test_hanging_hosts_are_given_up_and_harm_no_other() -> None:
    async with AsyncExitStack() as stack:
        hasty = strict_settings(patient=False)
        downloader = await stack.enter_async_context(
            open_downloader(hasty, connections=2 * len(HANGING))
        )
        hosts = [await stack.enter_async_context(open_adversary(each)) for each in HANGING.values()]
        good = (await stack.enter_async_context(open_site(GOOD))).add_body("/good", IMAGE)

        async with deadline():
            codes = await asyncio.gather(*(outcome(downloader, f"{host}/a.png") for host in hosts))

        assert dict(zip(HANGING, codes, strict=True)) == dict.fromkeys(HANGING, "timeout")

        async def is_fetched() -> bool:
            return await outcome(downloader, good) == "image"

        await eventually(is_fetched)


async def test_sixty_hostile_servers_do_not_hold_up_a_good_one() -> None:
    assert len(CASES) >= 60
    async with (
        open_downloader(strict_settings(), connections=100) as downloader,
        open_adversary(silence_after(OK)) as silent,
        open_site(GOOD) as site,
    ):
        good = site.add_body("/good", IMAGE)
        waiting = [asyncio.create_task(outcome(downloader, f"{silent}/{n}")) for n in range(60)]

        assert await outcome(downloader, good) == "image"
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_bomb_takes_no_more_memory_than_the_limit_allows(downloader: Downloader) -> None:
    bomb = body(BOMB, b"Content-Encoding: gzip")
    async with open_adversary(bomb) as hostile:
        tracemalloc.start()
        try:
            assert await outcome(downloader, f"{hostile}/a.png") == "too_large"
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert peak < 32 * LIMIT_BYTES
