"""The fetcher's HTTP contract, with answers that the test decides, over real HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

BATCH_ID = "20261124T093000-5f3a9c2e17b4"
OUTCOMES = ("queued", "stored", "unchanged", "failed", "cancelled")


def counts(**given: int) -> dict[str, int]:
    return {name: given.get(name, 0) for name in OUTCOMES}


def problem(status: int, code: str, detail: str, **extra: Any) -> web.Response:
    body = {"type": "about:blank", "status": status, "code": code, "detail": detail, **extra}
    return web.json_response(body, status=status, content_type="application/problem+json")


def item(url: str, outcome: str = "stored", **changes: Any) -> dict[str, Any]:
    return {
        "url": url,
        "outcome": outcome,
        "code": None,
        "detail": None,
        "key": None,
        "attempts": 1,
        **changes,
    }


class ScriptedFetcher:
    """Answers as told, and remembers what it was sent."""

    def __init__(self) -> None:
        self.url = ""
        self.submitted: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.submission: web.Response | dict[str, Any] = {
            "batch_id": BATCH_ID,
            "accepted": 2,
            "rejected": [],
            "rejected_count": 0,
            "status_url": f"/batches/{BATCH_ID}",
        }
        self.progress = [counts(stored=2)]
        """Counts by question; the last one is given again and again."""
        self.items: list[dict[str, Any]] = []
        self.page_items = 2
        self.hosts: list[dict[str, Any]] = []

    async def _submit(self, request: web.Request) -> web.Response:
        self.headers.append(dict(request.headers))
        if request.content_type == "application/json":
            self.submitted.append(await request.json())
        else:
            form = await request.post()
            file = form["file"]
            assert isinstance(file, web.FileField)
            self.submitted.append(
                {
                    "file_name": file.filename,
                    "content": file.file.read().decode(errors="surrogateescape"),
                    "name": form.get("name"),
                }
            )
        if isinstance(self.submission, web.Response):
            return self.submission
        return web.json_response(self.submission, status=202)

    async def _batch(self, request: web.Request) -> web.Response:
        self.headers.append(dict(request.headers))
        if request.match_info["id"] != BATCH_ID:
            return problem(404, "batch_not_found", "there is no such batch")
        now = self.progress.pop(0) if len(self.progress) > 1 else self.progress[0]
        state = "running" if now["queued"] else "completed"
        return web.json_response({"batch_id": BATCH_ID, "state": state, "counts": now})

    async def _items(self, request: web.Request) -> web.Response:
        outcome = request.query.get("outcome")
        found = [each for each in self.items if outcome in {None, each["outcome"]}]
        start = int(request.query.get("cursor", 0))
        end = start + self.page_items
        page = {"items": found[start:end], "next": str(end) if end < len(found) else None}
        return web.json_response(page)

    async def _hosts(self, request: web.Request) -> web.Response:
        return web.json_response({"hosts": self.hosts[: int(request.query["limit"])]})

    async def _ready(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "checks": {}})

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_post("/batches", self._submit)
        application.router.add_get("/batches/{id}", self._batch)
        application.router.add_get("/batches/{id}/items", self._items)
        application.router.add_get("/hosts", self._hosts)
        application.router.add_get("/readyz", self._ready)
        return application


@asynccontextmanager
async def scripted_fetcher() -> AsyncIterator[ScriptedFetcher]:
    fetcher = ScriptedFetcher()
    async with TestServer(fetcher.application()) as server:
        fetcher.url = str(server.make_url("/"))
        yield fetcher
