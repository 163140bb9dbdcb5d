"""The HTTP answers to errors of the fetcher."""

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.common.domain.errors import PipelineError
from services.common.download.errors import FailedDownloadError, RefusedDownloadError
from services.fetcher.api import AppState, build_app
from services.fetcher.batches.references import ListUrlFailedError, ListUrlRefusedError
from services.fetcher.settings import FetcherSettings
from services.fetcher.sources.archives.members import ArchiveRefusedError
from services.fetcher.sources.errors import (
    ItemTooLargeError,
    ListTooLargeError,
    MalformedListError,
    UnsupportedListFormatError,
    reject,
)
from services.fetcher.sources.spool import GzipError, NoSpaceError

ROW = {"line": 2, "value": "x", "code": "invalid_url", "detail": "no URL"}


async def answer_to(error: Exception) -> tuple[int, bool, dict[str, Any]]:
    """Return status, whether the client shall retry, and the problem's own members."""

    async def find(_: str) -> None:
        raise error

    state = cast("AppState", SimpleNamespace(batches=SimpleNamespace(find=find)))
    app = build_app(FetcherSettings(), state, ready={}, alive={})
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/batches/b", "query_string": b""}
    await app({**scope, "headers": [(b"host", b"localhost")]}, receive, send)
    problem = json.loads(sent[1]["body"])
    own = {name: problem[name] for name in problem.keys() - {"type", "title", "status"}}
    return sent[0]["status"], b"retry-after" in dict(sent[0]["headers"]), own


@pytest.mark.parametrize(
    ("error", "status", "members"),
    [
        (ListTooLargeError(9), 413, {"code": "list_too_large", "detail": "more than 9 bytes"}),
        (ItemTooLargeError("a page"), 413, {"code": "image_too_large", "detail": "a page"}),
        (
            UnsupportedListFormatError("a PDF"),
            415,
            {"code": "unsupported_list_format", "detail": "a PDF"},
        ),
        (
            ListUrlRefusedError(RefusedDownloadError("gone", "410")),
            422,
            {"code": "gone", "detail": "list_url: 410"},
        ),
        (
            MalformedListError("no list", [reject(2, "x", "invalid_url", "no URL")]),
            422,
            {"code": "malformed_list", "detail": "no list", "rejected": [ROW]},
        ),
        (
            ArchiveRefusedError("no archive"),
            422,
            {"code": "archive_refused", "detail": "no archive", "rejected": []},
        ),
        (
            GzipError("cut short"),
            422,
            {"code": "malformed_list", "detail": "cut short", "rejected": []},
        ),
        (
            ListUrlFailedError(FailedDownloadError("timeout", "silence")),
            502,
            {"code": "timeout", "detail": "list_url: silence"},
        ),
        (NoSpaceError("full"), 503, {"code": "no_space", "detail": "no space: full"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, PipelineError) else "",
)
async def test_error_of_a_received_file_has_its_answer(
    error: PipelineError, status: int, members: dict[str, Any]
) -> None:
    assert await answer_to(error) == (status, status in {502, 503}, members)
