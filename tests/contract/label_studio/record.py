"""Record what Label Studio's SDK sends for the calls that are needed here, and what is answered.

Run it where the SDK and Label Studio itself are installed (in an environment of their own: they
can't be installed beside this project), from this folder:

    LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN=true SSRF_PROTECTION_ENABLED=false \
        label-studio start --no-browser --port 8084 --username ada@example.org \
        --password … --user-token TOKEN
    python record.py http://127.0.0.1:8084 TOKEN

It writes exchanges.json, which the tests hold our client and the fake server to, and says whether
the SDK finds our labelling configuration and our tasks (tasks.json) valid.
"""

import http.server
import json
import sys
import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.label_interface import LabelInterface
from typing_extensions import override

HERE = Path(__file__).parent
CONFIG = (HERE.parents[2] / "services/label_studio/labeling.xml").read_text()
TASKS = json.loads((HERE / "tasks.json").read_text())
SECRET = "a-secret-of-a-webhook"
SINCE = "2026-01-01T00:00:00.000000Z"
ANSWERED = {
    "result": [
        {
            "id": "answer",
            "from_name": "text",
            "to_name": "image",
            "type": "textarea",
            "origin": "manual",
            "value": {"text": ["What it says"]},
        }
    ],
    "lead_time": 2.5,
}
CHOSEN = {
    "result": [
        {
            "id": "choice",
            "from_name": "quality",
            "to_name": "image",
            "type": "choices",
            "origin": "manual",
            "value": {"choices": ["unreadable"]},
        }
    ]
}


class Recorder:
    """Keeps each request of a client with its answer, by the name of the step."""

    def __init__(self) -> None:
        self.step = ""
        self.exchanges: list[dict[str, Any]] = []

    def keep(self, response: httpx.Response) -> None:
        response.read()
        request = response.request
        content = request.content
        self.exchanges.append(
            {
                "step": self.step,
                "method": request.method,
                "path": request.url.path,
                "query": dict(request.url.params),
                "body": json.loads(content) if content else None,
                "scheme": request.headers.get("authorization", "").partition(" ")[0],
                "status": response.status_code,
                "answer": json.loads(response.content) if response.content else None,
            }
        )


def query(last: int, since: str | None = None) -> str:
    items: list[dict[str, Any]] = [
        {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": last}
    ]
    if since:
        name = "filter:tasks:updated_at"
        items.append({"filter": name, "operator": "greater", "type": "Datetime", "value": since})
    filters = {"conjunction": "and", "items": items}
    return json.dumps({"filters": filters, "ordering": ["tasks:id"]})


def listed(client: LabelStudio, project: int, fields: str, since: str | None = None) -> list[Any]:
    page = client.tasks.list(
        fields=fields, page=1, page_size=100, project=project, query=query(0, since)
    )
    return list(page.items)


def record(client: LabelStudio, recorder: Recorder, hook: str) -> None:
    def step(name: str, call: Callable[[], Any]) -> Any:
        recorder.step = name
        return call()

    step("find_project", lambda: client.projects.list(page=1, page_size=100, title="Lines"))
    project = step(
        "create_project", lambda: client.projects.create(title="Lines", label_config=CONFIG)
    ).id
    step(
        "import_tasks",
        lambda: client.projects.import_tasks(
            project, request=TASKS, commit_to_project=True, return_task_ids=True
        ),
    )
    first, second = (
        each.id for each in step("tasks", lambda: listed(client, project, "task_only"))
    )
    step("update_task", lambda: client.tasks.update(first, data=TASKS[1]["data"]))
    said = TASKS[0]["predictions"][0]
    kept = step("predictions", lambda: client.predictions.list(task=first))[0].id
    step("create_prediction", lambda: client.predictions.create(task=first, **said))
    step("update_prediction", lambda: client.predictions.update(kept, **said))
    step("users", client.users.list)
    step("now", client.versions.get)
    about = {
        "actions": ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"],
        "headers": {"Authorization": f"Bearer {SECRET}"},
        "is_active": True,
        "send_for_all_actions": False,
        "send_payload": True,
        "url": hook,
    }
    step("create_webhook", lambda: client.webhooks.create(project=project, **about))
    number = step("webhooks", lambda: client.webhooks.list(project=project))[0].id
    step("update_webhook", lambda: client.webhooks.update(number, **about))
    answer = step("annotate", lambda: client.annotations.create(first, **ANSWERED)).id
    step("annotate", lambda: client.annotations.update(answer, **CHOSEN))
    step("annotate", lambda: client.annotations.create(second, result=[], was_cancelled=True))
    step("task", lambda: client.tasks.get(str(first)))
    step("changed_tasks", lambda: listed(client, project, "all", SINCE))
    step("annotate", lambda: client.annotations.delete(answer))
    step("delete_task", lambda: client.tasks.delete(str(first)))


def receive_webhooks() -> tuple[str, list[Any]]:
    """Take webhooks in a thread; return the address, and where they are kept."""
    received: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            authorization = self.headers["Authorization"]
            received.append({"authorization": authorization, "body": json.loads(body)})
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        @override
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 8098), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return "http://127.0.0.1:8098/webhooks/label-studio", received


def validity() -> dict[str, Any]:
    """Return what the SDK says of our configuration and tasks."""
    interface = LabelInterface(CONFIG)
    interface.validate()
    errors = [
        interface.validate_prediction(said, return_errors=True)
        for task in TASKS
        for said in task["predictions"]
    ]
    tasks = [interface.validate_task({"data": task["data"]}) for task in TASKS]
    return {"config": CONFIG, "tasks": tasks, "prediction_errors": errors}


def main() -> None:
    url, token = sys.argv[1:]
    recorder, (hook, events) = Recorder(), receive_webhooks()
    transport = httpx.Client(event_hooks={"response": [recorder.keep]}, timeout=30)
    record(LabelStudio(base_url=url, api_key=token, httpx_client=transport), recorder, hook)
    recorder.step = "personal_token"
    with httpx.Client() as plain:
        headers = {"Authorization": f"Token {token}"}
        personal = plain.post(f"{url}/api/token/", headers=headers, json={}).json()["token"]
    LabelStudio(base_url=url, api_key=personal, httpx_client=transport).users.list()
    for exchange in recorder.exchanges:
        if exchange["path"] == "/api/token/refresh/":
            exchange["body"], exchange["answer"] = {"refresh": "…"}, {"access": "…"}
    for event in events:
        event["body"]["project"].pop("token", None)
    recorded = {
        "versions": {name: version(name) for name in ("label-studio", "label-studio-sdk")},
        "validity": validity(),
        "exchanges": recorder.exchanges,
        "events": events,
    }
    (HERE / "exchanges.json").write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
