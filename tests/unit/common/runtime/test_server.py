from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from structlog.testing import capture_logs

from services.common.runtime.problems import install_problem_handlers
from services.common.runtime.server import BodyGuard, bounded_body

LIMIT = 10


class TooMuchError(Exception):
    """A test route's error of a too large body."""


def app_of(taken: list[bytes]) -> FastAPI:
    app = FastAPI()
    app.add_middleware(BodyGuard, limit_of=lambda path: LIMIT if path == "/limited" else None)
    install_problem_handlers(app)

    @app.post("/limited")
    @app.post("/free")
    async def take(request: Request) -> None:
        taken.extend([piece async for piece in request.stream()])

    return app


async def answer_of(app: FastAPI, path: str, pieces: list[bytes], **headers: str) -> int:
    sent: list[Any] = []
    left = [*pieces]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": raw, "query_string": b""}
    await app(scope, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    ("path", "pieces", "headers", "status"),
    [
        ("/limited", [b"x" * LIMIT], {"content_length": "10"}, 200),
        ("/limited", [b"x" * 6, b"x" * 4], {"transfer_encoding": "chunked"}, 200),
        ("/limited", [b"x" * 6, b"x" * 5], {"transfer_encoding": "chunked"}, 413),
        ("/limited", [b"x" * 11], {"content_length": "10"}, 413),
        ("/limited", [b"x"], {"content_length": "11"}, 413),
        ("/limited", [b"x"], {"content_length": "1", "transfer_encoding": "chunked"}, 400),
        ("/free", [b"x"], {"content_length": "1", "transfer_encoding": "chunked"}, 400),
        ("/free", [b"x" * 20], {"content_length": "20"}, 200),
    ],
)
async def test_body_is_counted_as_it_arrives(
    path: str, pieces: list[bytes], headers: dict[str, str], status: int
) -> None:
    taken: list[bytes] = []

    assert await answer_of(app_of(taken), path, pieces, **headers) == status
    if path == "/limited":
        assert len(b"".join(taken)) <= LIMIT
    if status == 400:
        assert not taken


@pytest.mark.parametrize(
    ("pieces", "length"), [([b"x" * 6] * 2, ""), ([b"x"], "11")], ids=["arrives", "declared"]
)
async def test_route_says_itself_that_a_body_is_too_large(pieces: list[bytes], length: str) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    scope = {"type": "http", "headers": [(b"content-length", length.encode())]}

    async def body() -> AsyncIterator[bytes]:
        async for piece in bounded_body(Request(scope, receive), LIMIT, TooMuchError):
            yield piece

    with pytest.raises(TooMuchError):
        _ = [piece async for piece in body()]


async def test_client_that_leaves_is_no_error_of_the_service() -> None:
    app, sent = app_of([]), []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/free", "headers": [], "query_string": b""}
    with capture_logs() as logs:
        await app(scope, receive, send)

    assert logs == []
    assert sent[0]["status"] == 400
