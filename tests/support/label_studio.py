"""A stand-in for Label Studio: the part of its HTTP API that is used here, on a real socket.

tests/contract/test_label_studio.py holds it to what Label Studio itself answered to its SDK.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import ClientSession, web

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
TOKEN = "0123456789abcdef0123456789abcdef01234567"
PERSONAL_TOKEN = "e30.e30.refresh"
ADA: Json = {"id": 1, "email": "ada@example.org", "first_name": "", "last_name": ""}


@dataclass
class Exchange:
    """A request, and what was answered."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    scheme: str
    status: int = 0
    answer: Any = None

    @property
    def request(self) -> tuple[str, str, dict[str, str], Any]:
        return self.method, self.path, self.query, self.body


@dataclass
class LabelStudioFake:
    """Its content; tests may change all of it while it runs.

    Attributes:
        faults: Answers of the next requests, before anything else is done.
        access: Valid access tokens that personal tokens were exchanged for.
    """

    url: str = ""
    projects: dict[int, Json] = field(default_factory=dict)
    tasks: dict[int, Json] = field(default_factory=dict)
    predictions: dict[int, Json] = field(default_factory=dict)
    annotations: dict[int, Json] = field(default_factory=dict)
    webhooks: dict[int, Json] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)
    faults: list[web.Response] = field(default_factory=list)
    access: set[str] = field(default_factory=set)
    last: int = 0
    clock: datetime = datetime(1970, 1, 1, tzinfo=UTC)

    def writes(self) -> list[str]:
        """Return the requests that change something, and forget all requests."""
        said = [f"{each.method} {each.path}" for each in self.exchanges if each.method != "GET"]
        self.exchanges.clear()
        return said

    def number(self) -> int:
        self.last += 1
        return self.last

    def now(self) -> str:
        """Return the time, later at each call, as Label Studio writes it."""
        later = self.clock + timedelta(milliseconds=1, microseconds=1)
        self.clock = max(later, datetime.now(tz=UTC))
        return self.clock.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def add_task(self, project: int, data: Json) -> Json:
        at, number = self.now(), self.number()
        task = {"id": number, "project": project, "data": data, "meta": {}}
        self.tasks[number] = task | {"created_at": at, "updated_at": at}
        return self.tasks[number]

    def add_prediction(self, task: int, said: Json) -> Json:
        fields = {"id": self.number(), "task": task, "project": self.tasks[task]["project"]}
        times = {"created_at": self.now(), "updated_at": self.now()}
        self.predictions[fields["id"]] = {**said, **fields, **times}
        return self.predictions[fields["id"]]

    def add_annotation(self, task: int, said: Json) -> Json:
        at = self.now()
        made = {
            "id": self.number(),
            "task": task,
            "project": self.tasks[task]["project"],
            "completed_by": 1,
            "was_cancelled": False,
            "ground_truth": False,
            "created_at": at,
            "updated_at": at,
            **said,
        }
        self.annotations[made["id"]] = made
        self.touch(task)
        return made

    def touch(self, task: int) -> None:
        self.tasks[task]["updated_at"] = self.now()

    def shown(self, task: Json, *, is_all: bool) -> Json:
        """Return a task as listings show it."""
        said = [each for each in self.annotations.values() if each["task"] == task["id"]]
        read = [each for each in self.predictions.values() if each["task"] == task["id"]]
        skipped = sum(each["was_cancelled"] for each in said)
        counts = {
            "total_annotations": len(said) - skipped,
            "cancelled_annotations": skipped,
            "total_predictions": len(read),
        }
        return {**task, **counts, **({"annotations": said, "predictions": read} if is_all else {})}


def _matches(task: Json, query: str) -> bool:
    for item in json.loads(query or "{}").get("filters", {}).get("items", []):
        assert item["operator"] == "greater", item
        if not task[item["filter"].removeprefix("filter:tasks:")] > item["value"]:
            return False
    return True


class _Api:
    """The handlers."""

    def __init__(self, held: LabelStudioFake) -> None:
        self.held = held

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/projects/", self.list_projects),
            web.post("/api/projects/", self.create_project),
            web.post("/api/projects/{id}/import", self.import_tasks),
            web.get("/api/tasks/", self.list_tasks),
            web.get("/api/tasks/{id}/", self.task),
            web.patch("/api/tasks/{id}/", self.update("tasks")),
            web.delete("/api/tasks/{id}/", self.delete("tasks")),
            web.post("/api/tasks/{id}/annotations/", self.annotate),
            web.patch("/api/annotations/{id}/", self.update("annotations")),
            web.delete("/api/annotations/{id}/", self.delete("annotations")),
            web.get("/api/predictions/", self.list_predictions),
            web.post("/api/predictions/", self.predict),
            web.patch("/api/predictions/{id}/", self.update("predictions")),
            web.get("/api/webhooks/", self.list_webhooks),
            web.post("/api/webhooks/", self.create_webhook),
            web.patch("/api/webhooks/{id}/", self.update("webhooks")),
            web.get("/api/users/", self.users),
            web.get("/api/version/", self.version),
            web.post("/api/token/refresh/", self.refresh),
        ]

    async def list_projects(self, request: web.Request) -> web.Response:
        title = request.query["title"].lower()
        found = [each for each in self.held.projects.values() if title in each["title"].lower()]
        page = {"count": len(found), "next": None, "previous": None, "results": found}
        return web.json_response(page)

    async def create_project(self, request: web.Request) -> web.Response:
        project = {"id": self.held.number(), **await request.json()}
        self.held.projects[project["id"]] = project
        return web.json_response(project, status=201)

    async def import_tasks(self, request: web.Request) -> web.Response:
        project, numbers = int(request.match_info["id"]), []
        for each in await request.json():
            numbers.append(self.held.add_task(project, each["data"])["id"])
            for said in each["predictions"]:
                self.held.add_prediction(numbers[-1], said)
        counts = {"task_count": len(numbers), "annotation_count": 0}
        return web.json_response({**counts, "task_ids": numbers}, status=201)

    async def list_tasks(self, request: web.Request) -> web.Response:
        query, wanted = request.query, int(request.query["project"])
        found = [
            each
            for each in self.held.tasks.values()
            if each["project"] == wanted and _matches(each, query.get("query", ""))
        ]
        found.sort(key=lambda each: each["id"])
        size = int(query["page_size"])
        page = found[(int(query["page"]) - 1) * size :][:size]
        if not page and query["page"] != "1":
            return web.json_response({"detail": "Invalid page."}, status=404)
        is_all = query.get("fields") == "all"
        tasks = [self.held.shown(each, is_all=is_all) for each in page]
        return web.json_response({"total": len(found), "tasks": tasks})

    async def task(self, request: web.Request) -> web.Response:
        task = self.held.tasks.get(int(request.match_info["id"]))
        if task is None:
            return web.json_response({"detail": "Not found."}, status=404)
        shown = self.held.shown(task, is_all=True)
        said = [{**each, "completed_by": ADA} for each in shown["annotations"]]
        return web.json_response({**shown, "annotations": said})

    async def annotate(self, request: web.Request) -> web.Response:
        task = int(request.match_info["id"])
        made = self.held.add_annotation(task, await request.json())
        await self.tell("ANNOTATION_CREATED", made)
        return web.json_response(made, status=201)

    async def list_predictions(self, request: web.Request) -> web.Response:
        task = int(request.query["task"])
        found = [each for each in self.held.predictions.values() if each["task"] == task]
        return web.json_response(found)

    async def predict(self, request: web.Request) -> web.Response:
        body = await request.json()
        return web.json_response(self.held.add_prediction(body["task"], body), status=201)

    async def list_webhooks(self, _: web.Request) -> web.Response:
        return web.json_response(list(self.held.webhooks.values()))

    async def create_webhook(self, request: web.Request) -> web.Response:
        webhook = {"id": self.held.number(), **await request.json()}
        self.held.webhooks[webhook["id"]] = webhook
        return web.json_response(webhook, status=201)

    async def users(self, _: web.Request) -> web.Response:
        return web.json_response([ADA])

    async def version(self, _: web.Request) -> web.Response:
        return web.json_response({"release": "fake"})

    async def refresh(self, request: web.Request) -> web.Response:
        if (await request.json())["refresh"] != PERSONAL_TOKEN:
            return web.json_response({"detail": "Token is invalid"}, status=401)
        self.held.access.add(f"access-{self.held.number()}")
        return web.json_response({"access": max(self.held.access)})

    def update(self, kind: str) -> Handler:
        async def change(request: web.Request) -> web.Response:
            kept: Json = getattr(self.held, kind)[int(request.match_info["id"])]
            kept.update(await request.json())
            kept["updated_at"] = self.held.now()
            if kind == "annotations":
                self.held.touch(kept["task"])
                await self.tell("ANNOTATION_UPDATED", kept)
            return web.json_response(kept)

        return change

    def delete(self, kind: str) -> Handler:
        async def remove(request: web.Request) -> web.Response:
            kept: Json | None = getattr(self.held, kind).pop(int(request.match_info["id"]), None)
            if kept is None:
                return web.json_response({"detail": "Not found."}, status=404)
            if kind == "annotations":
                self.held.touch(kept["task"])
                await self.tell("ANNOTATIONS_DELETED", kept)
            return web.Response(status=204)

        return remove

    async def tell(self, action: str, said: Json) -> None:
        """Send an event, as Label Studio does before it answers the annotator."""
        about: Json = {"annotations": [{"id": said["id"]}]}
        if action != "ANNOTATIONS_DELETED":
            about = {"annotation": said, "task": self.held.tasks[said["task"]]}
        body = {"action": action, **about, "project": {"id": said["project"]}}
        async with ClientSession() as client:
            for webhook in self.held.webhooks.values():
                async with client.post(webhook["url"], json=body, headers=webhook["headers"]):
                    pass


def _answers(held: LabelStudioFake) -> Callable[..., Awaitable[web.StreamResponse]]:
    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        exchange = Exchange(request.method, request.path, dict(request.query), body, scheme)
        held.exchanges.append(exchange)
        response: web.StreamResponse
        if held.faults:
            response = held.faults.pop(0)
        elif not _is_known(held, scheme, token) and "/token/" not in request.path:
            response = web.json_response({"detail": "Invalid token."}, status=401)
        else:
            response = await handler(request)
        exchange.status = response.status
        if isinstance(response, web.Response) and response.content_type == "application/json":
            exchange.answer = json.loads(response.text or "null")
        return response

    return answer


def _is_known(held: LabelStudioFake, scheme: str, token: str) -> bool:
    return token == TOKEN if scheme == "Token" else token in held.access


@asynccontextmanager
async def open_label_studio_fake() -> AsyncIterator[LabelStudioFake]:
    """Serve on a free port for the length of an ``async with`` block."""
    held = LabelStudioFake()
    application = web.Application(middlewares=[_answers(held)], client_max_size=2**26)
    application.add_routes(_Api(held).routes())
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    held.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield held
    finally:
        await runner.cleanup()
