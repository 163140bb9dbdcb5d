"""Archives that are kept for the items of them that come one by one."""

import asyncio
import gzip
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest
from fastapi import FastAPI

from services.common.download.errors import FailedDownloadError, RefusedDownloadError
from services.common.runtime.bounded_child import BoundedChild, ChildLimits
from services.common.runtime.health import health_router
from services.fetcher.sources import spool
from services.fetcher.sources.archives import opening, refusals
from services.fetcher.sources.archives import source as archives_source
from services.fetcher.sources.archives.refusals import KEPT_SECONDS
from services.fetcher.sources.archives.settings import ArchiveSettings
from services.fetcher.sources.archives.source import (
    FULL_SECONDS,
    IDLE_SECONDS,
    OPENED_AT_ONCE,
    ArchiveSource,
)
from services.fetcher.sources.spool import Spool, unzipped
from services.fetcher.sources.submitted import fetch_to
from tests.support.archives import Host, zip_of
from tests.support.virtual_time import Clock
from tests.support.waiting import DEADLINE_SECONDS, deadline, until

pytestmark = pytest.mark.slow

MEMBERS = 40
INDEX_BYTES = 45 * MEMBERS


def archive() -> bytes:
    return zip_of({f"{number}.png": b"content" for number in range(MEMBERS)})


def source_of(
    host: Host,
    clock: Clock | None = None,
    timeout_seconds: float = 60,
    room: Spool | None = None,
    settings: ArchiveSettings | None = None,
) -> ArchiveSource:
    return ArchiveSource(
        host,
        settings or ArchiveSettings(),
        room or Spool(100_000),
        max_item_bytes=100,
        timeout_seconds=timeout_seconds,
        clock=clock or Clock(),
    )


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "TemporaryFile", partial(Path("/dev/full").open, "w+b"))


@pytest.mark.parametrize("archives", [2, 3, 4])
@pytest.mark.parametrize("at_once", [1, 8])
async def test_archives_with_interleaved_members_are_downloaded_once(
    archives: int, at_once: int
) -> None:
    host = Host(archive())
    source, slots = source_of(host), asyncio.Semaphore(archives * at_once)

    async def get(url: str) -> None:
        async with slots:
            assert (await source.get(url)).content == b"content"

    urls = [f"http://h{each}/a.zip" for each in range(archives)]
    await asyncio.gather(*(get(f"{url}#{n}.png") for n in range(MEMBERS) for url in urls))
    source.close()

    assert host.downloads == dict.fromkeys(urls, 1)


async def test_archives_that_are_opened_leave_threads_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened, may_go_on = threading.Semaphore(0), threading.Event()

    def slow(file: IO[bytes], *rest: Any) -> IO[bytes]:
        opened.release()
        assert may_go_on.wait(DEADLINE_SECONDS)
        return unzipped(file, *rest)

    monkeypatch.setattr(archives_source, "unzipped", slow)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(OPENED_AT_ONCE + 1))
    source = source_of(Host(archive()))
    urls = [f"http://h{each}/a.zip#1.png" for each in range(OPENED_AT_ONCE + 1)]
    reading = [asyncio.create_task(source.get(url)) for url in urls]
    try:
        for _ in range(OPENED_AT_ONCE):
            await asyncio.to_thread(opened.acquire)
        async with deadline():
            assert await asyncio.to_thread(int) == 0
    finally:
        may_go_on.set()
        assert [(await each).content for each in reading] == [b"content"] * len(reading)
        source.close()


async def test_of_idle_archives_those_used_last_are_kept() -> None:
    host, clock = Host(archive()), Clock()
    source = source_of(host, clock)
    urls = [f"http://h{each}/a.zip" for each in range(3)]
    for url in (urls[0], urls[1], urls[0], urls[2]):
        await source.get(f"{url}#1.png")
        clock.now += IDLE_SECONDS
    for url in (urls[2], urls[0], urls[1]):
        await source.get(f"{url}#2.png")
    source.close()

    assert [host.downloads[url] for url in urls] == [1, 2, 1]


async def test_archive_that_never_ends_is_given_up() -> None:
    source = source_of(Host(None), timeout_seconds=0.05)

    async with deadline():
        with pytest.raises(FailedDownloadError) as caught:
            await source.get("http://h/a.zip#1.png")

    assert (caught.value.code, caught.value.most_attempts) == ("timeout", 2)


@pytest.mark.usefixtures("full_disk")
async def test_disk_that_is_full_is_not_the_archives_fault() -> None:
    source = source_of(Host(archive()))

    with pytest.raises(FailedDownloadError) as caught:
        await source.get("http://h/a.zip#1.png")

    assert caught.value.code == "no_space"


async def test_full_disk_during_decompression_is_a_transient_error(
    request: pytest.FixtureRequest,
) -> None:
    disk = Spool(100_000)
    host = Host(gzip.compress(archive()))
    with disk.file() as file:
        await fetch_to(file, host, "http://h/", spool=disk, max_bytes=10_000, timeout_seconds=60)
        request.getfixturevalue("full_disk")
        with pytest.raises(FailedDownloadError) as caught:
            unzipped(file, disk, lambda *_: None)

    assert caught.value.code == "no_space"


async def test_idle_archives_make_room_on_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(archive())
    source = source_of(host)
    await source.get("http://h1/a.zip#1.png")
    with monkeypatch.context() as patch:
        patch.setattr(spool, "TemporaryFile", partial(Path("/dev/full").open, "w+b"))
        with pytest.raises(FailedDownloadError):
            await source.get("http://h2/a.zip#1.png")

    for number in (1, 2):
        await source.get(f"http://h{number}/a.zip#2.png")
    source.close()

    assert host.downloads == {"http://h1/a.zip": 2, "http://h2/a.zip": 2}


async def test_idle_archives_make_room_within_the_spool_limit() -> None:
    host, size = Host(archive()), len(archive()) + INDEX_BYTES
    source = source_of(host, room=Spool(2 * size))
    for name in ("h1", "h2"):
        await source.get(f"http://{name}/a.zip#1.png")
    with pytest.raises(FailedDownloadError) as caught:
        await source.get("http://h3/a.zip#1.png")

    assert caught.value.code == "no_space"
    assert (await source.get("http://h3/a.zip#1.png")).content == b"content"
    source.close()


async def test_archive_without_room_is_not_downloaded_for_each_item() -> None:
    host, clock, room = Host(archive()), Clock(), Spool(len(archive()) + INDEX_BYTES)
    source = source_of(host, clock, room=room)
    with room.file() as others:
        room.write(others, b"x")
        for number in range(3):
            with pytest.raises(FailedDownloadError) as caught:
                await source.get(f"http://h/a.zip#{number}.png")
            assert caught.value.code == "no_space"
    clock.now += FULL_SECONDS

    assert (await source.get("http://h/a.zip#1.png")).content == b"content"
    source.close()
    assert host.downloads == {"http://h/a.zip": 2}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"no archive", "archive_refused"),
        (gzip.compress(archive())[:-9], "archive_refused"),
        (archive()[:-9], "archive_refused"),
        (archive() + bytes(2**15), "too_large"),
    ],
    ids=["no archive", "gzip cut short", "zip cut short", "too large"],
)
async def test_refused_archive_is_not_downloaded_for_each_member(content: bytes, code: str) -> None:
    host, clock = Host(content), Clock()
    source = source_of(host, clock, settings=ArchiveSettings(max_archive_bytes=2**15))
    for after, downloads in ((0.0, 1), (KEPT_SECONDS, 1), (1.0, 2)):
        clock.now += after
        for number in range(3):
            with pytest.raises(RefusedDownloadError) as caught:
                await source.get(f"http://h/a.zip#{number}.png")
            assert caught.value.code == code
        assert host.downloads["http://h/a.zip"] == downloads
    source.close()


async def test_failure_that_may_pass_is_not_remembered() -> None:
    host = Host(None)
    source = source_of(host, timeout_seconds=0.01)
    for _ in range(2):
        with pytest.raises(FailedDownloadError):
            await source.get("http://h/a.zip#1.png")

    assert host.downloads["http://h/a.zip"] == 2
    source.close()


def test_refusals_that_are_remembered_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "KEPT", 2)
    kept = refusals.Refusals(Clock())
    for name in "abac":
        kept.add(name, RefusedDownloadError("gone", name))

    kept.check("b")
    for name in "ac":
        with pytest.raises(RefusedDownloadError, match=name):
            kept.check(name)


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> list[BoundedChild]:
    """Have archives opened by a child that computes without an end."""
    children = []

    def spinning(_: str, file: IO[bytes], limits: ChildLimits, *__: Any) -> BoundedChild:
        children.append(BoundedChild("tests.support.child_functions:spinning", file, limits))
        return children[-1]

    monkeypatch.setattr(opening, "BoundedChild", spinning)
    monkeypatch.setattr(opening, "b64decode", str.encode)
    return children


async def status_of(app: FastAPI, path: str) -> int:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
    await app(scope, receive, send)
    return int(sent[0]["status"])


async def test_service_answers_while_a_hostile_archive_is_read(endless: list[BoundedChild]) -> None:
    source, app = source_of(Host(archive())), FastAPI()
    app.include_router(health_router(ready={}))
    reading = asyncio.create_task(source.get("http://h/a.zip#1.png"))

    await until(lambda: bool(endless))
    for _ in range(20):
        assert await status_of(app, "/livez") == 200
    assert not reading.done()
    reading.cancel()
    source.close()

    await until(lambda: endless[0]._process.poll() is not None)
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_gzip_of_an_archive_without_readers_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pieces = 0

    def endless_zeros(_: IO[bytes]) -> Iterator[bytes]:
        nonlocal pieces
        while True:
            pieces += 1
            yield b""

    monkeypatch.setattr(spool, "gunzipped", endless_zeros)
    source = source_of(Host(gzip.compress(archive())))
    reading = asyncio.create_task(source.get("http://h/a.zip#1.png"))

    await until(lambda: pieces > 0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    source.close()
    await asyncio.to_thread(source._threads.shutdown, wait=True)
