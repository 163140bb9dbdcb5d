"""Client of Label Studio's HTTP API: the requests of its SDK that are needed here.

It replaces the SDK (docs/decisions/0025-label-studio-over-http.md), and is tested against the
SDK's recorded requests in tests/contract/label_studio.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Any, Literal, TypeVar

from aiohttp import ClientSession, ClientTimeout
from pydantic import TypeAdapter, ValidationError

from services.common.domain.records import first_problem
from services.label_studio.errors import LabelStudioNotSetError, LabelStudioRefusedError
from services.label_studio.schemas import (
    Project,
    Projects,
    StudioPage,
    StudioPrediction,
    StudioTask,
    User,
    Webhook,
    to_task,
)
from services.label_studio.settings import LabelStudioSettings
from services.label_studio.transport import Transport

PAGE_ITEMS = 100
MAX_PROJECT_PAGES = 100
LIMITS_OF_ALL = 10
"""Total timeout, in read timeouts."""
WEBHOOK_ACTIONS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED")

Model = TypeVar("Model")
Fields = Literal["all", "task_only"]


class LabelStudio:
    """Client of Label Studio.

    Every method raises LabelStudioUnavailableError if it does not answer, and
    LabelStudioRefusedError if it refuses or its response is invalid.
    """

    def __init__(self, transport: Transport, url: str) -> None:
        self._transport = transport
        self.url = url

    async def find_project(self, title: str) -> Project | None:
        """Return the (oldest) project with this title, or None."""
        found: list[Project] = []
        for page in range(1, MAX_PROJECT_PAGES):
            params = {"page": page, "page_size": PAGE_ITEMS, "title": title}
            projects = _parsed(Projects, await self._ask("GET", "api/projects/", params=params))
            found.extend(each for each in projects.results if each.title == title)
            if projects.next is None:
                break
        return min(found, key=lambda each: each.id, default=None)

    async def create_project(self, title: str, label_config: str) -> Project:
        """Create a project."""
        body = {"title": title, "label_config": label_config}
        return _parsed(Project, await self._ask("POST", "api/projects/", body=body))

    async def tasks(
        self, project: int, *, fields: Fields, since: datetime | None = None
    ) -> AsyncGenerator[list[StudioTask | None], None]:
        """Yield pages of a project's tasks, all or those changed after a time; None: invalid.

        Paginated by task id, as numbered pages shift while tasks are added and deleted.
        """
        last = 0
        while True:
            params = {
                "fields": fields,
                "page": 1,
                "page_size": PAGE_ITEMS,
                "project": project,
                "query": _query(last, since),
            }
            page = _parsed(StudioPage, await self._ask("GET", "api/tasks/", params=params))
            tasks = [to_task(item) for item in page.items]
            yield tasks
            numbers = [_number(item) for item in page.items]
            if not numbers or max(numbers) <= last:
                return
            last = max(numbers)

    async def task(self, task: int) -> StudioTask | None:
        """Return a task with its annotations and their authors, or None."""
        try:
            return to_task(await self._ask("GET", f"api/tasks/{task}/"))
        except LabelStudioRefusedError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def import_tasks(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Add tasks with their predictions."""
        params = {"commit_to_project": "true", "return_task_ids": "true"}
        await self._ask("POST", f"api/projects/{project}/import", params=params, body=tasks)

    async def update_task(self, task: int, data: Mapping[str, Any]) -> None:
        """Replace the data of a task."""
        await self._ask("PATCH", f"api/tasks/{task}/", body={"data": data})

    async def delete_task(self, task: int) -> None:
        """Delete a task, if it exists."""
        try:
            await self._ask("DELETE", f"api/tasks/{task}/")
        except LabelStudioRefusedError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    async def predictions(self, task: int) -> list[StudioPrediction]:
        """Return the predictions of a task."""
        answer = await self._ask("GET", "api/predictions/", params={"task": task})
        return _parsed(list[StudioPrediction], answer)

    async def create_prediction(self, task: int, prediction: Mapping[str, Any]) -> None:
        """Add a prediction to a task."""
        await self._ask("POST", "api/predictions/", body={**prediction, "task": task})

    async def update_prediction(self, number: int, prediction: Mapping[str, Any]) -> None:
        """Replace a prediction."""
        await self._ask("PATCH", f"api/predictions/{number}/", body=prediction)

    async def users(self) -> dict[int, User]:
        """Return the accounts by id."""
        users = _parsed(list[User], await self._ask("GET", "api/users/"))
        return {user.id: user for user in users}

    async def now(self) -> datetime | None:
        """Return the server's time in whole seconds, or None."""
        await self._ask("GET", "api/version/")
        return self._transport.answered_at

    async def webhooks(self, project: int) -> list[Webhook]:
        """Return the webhooks of a project."""
        answer = await self._ask("GET", "api/webhooks/", params={"project": project})
        return _parsed(list[Webhook], answer)

    async def create_webhook(self, project: int, url: str, secret: str) -> None:
        """Create a webhook for annotations in a project."""
        body = {**_webhook(url, secret), "project": project}
        await self._ask("POST", "api/webhooks/", body=body)

    async def update_webhook(self, number: int, url: str, secret: str) -> None:
        """Update a webhook."""
        await self._ask("PATCH", f"api/webhooks/{number}/", body=_webhook(url, secret))

    async def _ask(self, method: str, path: str, **request: Any) -> Any:
        return await self._transport.ask(method, path, **request)


@asynccontextmanager
async def open_label_studio(settings: LabelStudioSettings) -> AsyncIterator[LabelStudio]:
    """Open a client for an ``async with`` block; it connects lazily.

    Raises:
        LabelStudioNotSetError: URL or token is not set.
    """
    if settings.url is None or settings.token is None:
        raise LabelStudioNotSetError("LABEL_STUDIO_URL and LABEL_STUDIO_TOKEN must both be set")
    limit = settings.timeout_seconds
    timeout = ClientTimeout(total=limit * LIMITS_OF_ALL, connect=limit, sock_read=limit)
    url = str(settings.url).rstrip("/")
    async with ClientSession(f"{url}/", timeout=timeout) as session:
        yield LabelStudio(Transport(session, settings.token), url)


def _query(last: int, since: datetime | None) -> str:
    """Return the filter of tasks, as a view of the data manager."""
    items = [{"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": last}]
    if since is not None:
        items.append(
            {
                "filter": "filter:tasks:updated_at",
                "operator": "greater",
                "type": "Datetime",
                "value": since.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            }
        )
    filters = {"conjunction": "and", "items": items}
    return json.dumps({"filters": filters, "ordering": ["tasks:id"]})


def _webhook(url: str, secret: str) -> dict[str, Any]:
    return {
        "actions": list(WEBHOOK_ACTIONS),
        "headers": {"Authorization": f"Bearer {secret}"},
        "is_active": True,
        "send_for_all_actions": False,
        "send_payload": True,
        "url": url,
    }


def _number(item: Any) -> int:
    number = item.get("id") if isinstance(item, dict) else None
    return number if isinstance(number, int) else 0


def _parsed(kind: type[Model], answer: Any) -> Model:
    try:
        return TypeAdapter(kind).validate_python(answer)
    except ValidationError as error:
        raise LabelStudioRefusedError(0, f"invalid response: {first_problem(error)}") from error
