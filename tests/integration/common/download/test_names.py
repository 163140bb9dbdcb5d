"""Names with unresponsive servers do not delay others."""

import asyncio
import socket
import threading
from typing import Any

import pytest

from services.common.download.client import open_downloader
from tests.support.adversary import loopback_settings
from tests.support.images import line_image
from tests.support.waiting import DEADLINE_SECONDS, deadline
from tests.support.web import open_site

SILENT = 20


async def test_silent_name_servers_hold_up_no_names_or_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = threading.Event()
    asked = threading.Semaphore(0)
    system = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        if str(host).endswith(".silent.test"):
            asked.release()
            answer.wait(DEADLINE_SECONDS)
        return system("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    settings = loopback_settings(robots="ignore")
    async with open_site() as site, open_downloader(settings, connections=64) as downloader:
        image = line_image("a")
        url = site.add_body("/a.png", image).replace("127.0.0.1", "good.test")
        silent = [
            asyncio.create_task(downloader.get(f"http://{number}.silent.test/"))
            for number in range(SILENT)
        ]
        try:
            async with deadline():
                for _ in silent:
                    assert await asyncio.to_thread(asked.acquire, timeout=DEADLINE_SECONDS)
                assert (await downloader.get(url)).content == image
        finally:
            answer.set()
            for task in silent:
                task.cancel()
            await asyncio.gather(*silent, return_exceptions=True)
