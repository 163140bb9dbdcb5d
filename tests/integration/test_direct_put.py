"""Writing without the client's machinery: the same object, and the same errors, as with it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import HttpUrl, SecretStr

from services.common.adapters import object_store
from services.common.adapters.direct_put import DirectPut, open_direct_put
from services.common.adapters.object_store import ObjectStore, open_object_store
from services.common.domain.errors import ObjectStoreUnavailableError
from services.common.runtime.settings import S3Settings
from tests.support.web import open_raw_server

pytestmark = pytest.mark.integration

CONTENT = b"bytes of an image"
DIGEST = sha256(CONTENT).hexdigest()
METADATA = {"source-url": "http://example.test/a%20b?x=1&y=2", "annotation": "%C3%A9t%C3%A9  a +"}
ODD_KEYS = (
    "a.png",
    "a b/ü+1 %25.png",
    "q?x=1&y#z.png",
    "日本/線.png",
    "~!*'();:@$,[]^`{|}\"<>\\.png",
    "no-such/..dots/a..b.png",
)


@pytest.fixture
async def store(s3_settings: S3Settings) -> AsyncIterator[ObjectStore]:
    async with open_object_store(s3_settings) as store:
        await store.client.create_bucket(Bucket=store.bucket)
        yield store


@pytest.fixture
def without_client(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a write that is not direct an error."""
    monkeypatch.setattr(store.client, "put_object", None)


async def write(store: ObjectStore, key: str = "a.png", **changes: Any) -> str:
    given = {"content_type": "image/png", "metadata": METADATA, "digest": DIGEST, **changes}
    return await store.write(key, CONTENT, **given)


@pytest.mark.usefixtures("without_client")
async def test_object_is_what_the_client_reads(store: ObjectStore) -> None:
    for key in ODD_KEYS:
        etag = await write(store, key)

        stored = await store.read(key, max_bytes=100)
        assert (stored.content, stored.info.etag) == (CONTENT, etag), key
        assert (stored.info.content_type, stored.info.metadata) == ("image/png", METADATA), key


async def test_it_goes_where_the_client_goes_whatever_path_the_endpoint_has() -> None:
    paths: list[str] = []

    async def acknowledge(request: web.Request) -> web.Response:
        paths.append(request.raw_path)
        return web.Response(headers={"ETag": '"a"'})

    application = web.Application()
    application.router.add_route("PUT", "/{path:.*}", acknowledge)
    async with TestServer(application) as server:
        for path in ("/", "/a%20b/", "/%7Ea+@:ü"):
            endpoint = HttpUrl(f"http://127.0.0.1:{server.port}{path}")
            settings = S3Settings(endpoint_url=endpoint)
            async with open_object_store(settings) as store:
                await write(store, "a é.png")
                await write(store, "a é.png", digest=None)

            directly, by_client = paths
            assert directly == by_client, path
            paths.clear()


@pytest.mark.usefixtures("without_client")
async def test_empty_object_and_repeated_writes(store: ObjectStore) -> None:
    nothing = sha256(b"").hexdigest()
    for _ in range(2):
        await store.write("a", b"", content_type="image/png", metadata={}, digest=nothing)

    stored = await store.read("a", max_bytes=0)
    assert (stored.content, stored.info.metadata) == (b"", {})


@pytest.mark.usefixtures("without_client")
async def test_large_object_is_sent_in_pieces(store: ObjectStore) -> None:
    content = bytes(3 * 1024 * 1024)  # aiohttp warns of bytes beyond 1 MiB

    digest = sha256(content).hexdigest()
    await store.write("a", content, content_type="image/png", metadata={}, digest=digest)

    assert (await store.read("a", max_bytes=len(content))).content == content


async def test_bytes_that_changed_on_the_way_are_not_stored(
    s3_settings: S3Settings, store: ObjectStore
) -> None:
    async with open_direct_put(s3_settings, tls=None) as put:
        assert await put("a.png", CONTENT + b"!", digest=DIGEST, headers={}) is None
    assert await store.head("a.png") is None


async def test_value_that_no_header_can_say_is_not_sent(
    s3_settings: S3Settings, store: ObjectStore
) -> None:
    async with open_direct_put(s3_settings, tls=None) as put:
        for value in ("été", "a\r\nx-amz-acl: public-read", "a\0b", "\x7f"):
            assert await put("a", CONTENT, digest=DIGEST, headers={"x-amz-meta-a": value}) is None
            with pytest.raises(ObjectStoreUnavailableError):
                await write(store, "a", metadata={"a": value})
    assert await store.head("a") is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"secret_access_key": SecretStr("not the password")}, "SignatureDoesNotMatch"),
        ({"access_key_id": "nobody"}, "InvalidAccessKeyId"),
        ({"bucket": "no-such-bucket"}, "NoSuchBucket"),
    ],
)
async def test_refusal_is_the_error_that_it_is_with_the_client(
    s3_settings: S3Settings, changes: dict[str, Any], code: str
) -> None:
    async with open_object_store(s3_settings.model_copy(update=changes)) as other:
        with pytest.raises(ObjectStoreUnavailableError, match=code) as direct:
            await write(other)
        with pytest.raises(ObjectStoreUnavailableError) as by_client:
            await write(other, digest=None)
    assert str(direct.value) == str(by_client.value)


async def test_missing_server_is_unavailable() -> None:
    settings = S3Settings(endpoint_url=HttpUrl("http://127.0.0.1:9"), connect_timeout_seconds=1)
    async with open_object_store(settings) as store:
        with pytest.raises(ObjectStoreUnavailableError, match="EndpointConnectionError"):
            await write(store)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\nETag: "a"\r\n\r\nshort',
        b"HTTP/1.1 307 Moved\r\nContent-Length: 0\r\nLocation: http://127.0.0.1:9/\r\n\r\n",
    ],
    ids=["nothing", "not HTTP", "no ETag", "breaks off", "redirect"],
)
async def test_answer_that_acknowledges_nothing_counts_for_nothing(answer: bytes) -> None:
    async with open_raw_server(answer) as url:
        settings = S3Settings(endpoint_url=HttpUrl(url), read_timeout_seconds=1)
        async with open_direct_put(settings, tls=None) as put:
            assert await put("a.png", CONTENT, digest=DIGEST, headers={}) is None


async def test_server_that_says_nothing_is_not_waited_for_longer_than_the_limit() -> None:
    async with open_raw_server(b"", stays_open=True) as url:
        settings = S3Settings(endpoint_url=HttpUrl(url), read_timeout_seconds=0.2)
        async with open_direct_put(settings, tls=None) as put:
            assert await put("a.png", CONTENT, digest=DIGEST, headers={}) is None


@pytest.mark.parametrize("digest", [DIGEST, None], ids=["directly", "by the client"])
async def test_server_that_takes_no_more_bytes_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, digest: str | None
) -> None:
    monkeypatch.setattr(object_store, "_SLOWEST_BYTES_PER_SECOND", 10**9)
    content = bytes(20 * 1024 * 1024)  # more than sockets hold
    async with open_raw_server(b"HTTP/1.1 100 Continue\r\n\r\n", stays_open=True) as url:
        settings = S3Settings(endpoint_url=HttpUrl(url), connect_timeout_seconds=0.05)
        hasty = settings.model_copy(update={"read_timeout_seconds": 0.2})
        async with open_object_store(hasty) as store, asyncio.timeout(30):
            with pytest.raises(ObjectStoreUnavailableError, match="TimeoutError"):
                await store.write(
                    "a", content, content_type="image/png", metadata={}, digest=digest
                )


async def test_client_tries_again_what_failed_at_first(
    s3_settings: S3Settings, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_raw_server(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n") as url:
        busy = s3_settings.model_copy(update={"endpoint_url": HttpUrl(url)})
        async with open_direct_put(busy, tls=None) as put:
            monkeypatch.setattr(store, "_direct_put", put)
            await write(store)

    stored = await store.read("a.png", max_bytes=100)
    assert (stored.content, stored.info.metadata) == (CONTENT, METADATA)


async def answering(requests: list[web.Request], tls: ssl.SSLContext) -> web.AppRunner:
    async def handle(request: web.Request) -> web.Response:
        requests.append(request)
        return web.Response(headers={"ETag": '"an-etag"'})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    return runner


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_https_needs_an_authority_that_the_client_trusts(
    is_trusted: bool,  # noqa: FBT001  pytest gives it
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    authority, requests = trustme.CA(), list[web.Request]()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    trusted = authority if is_trusted else trustme.CA()
    trusted.cert_pem.write_to_path(str(tmp_path / "authorities.pem"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "authorities.pem"))
    runner = await answering(requests, server)
    try:
        address = HttpUrl(f"https://127.0.0.1:{runner.addresses[0][1]}/behind/a/path")
        async with open_object_store(S3Settings(endpoint_url=address)) as store:
            put = store._direct_put
            assert isinstance(put, DirectPut)
            etag = await put("a b.png", CONTENT, digest=DIGEST, headers={})
    finally:
        await runner.cleanup()
    assert etag == ("an-etag" if is_trusted else None)
    assert [each.raw_path for each in requests] == ["/behind/a/path/raw/a%20b.png"] * is_trusted
