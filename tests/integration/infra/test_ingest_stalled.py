"""A list whose documents do not all come: ``run_local.sh`` says which, and shows the others."""

from collections.abc import AsyncGenerator, AsyncIterable
from io import StringIO
from pathlib import Path
from typing import IO

import pytest
from aiohttp import ClientSession
from rich.console import Console
from typing_extensions import override

from infra.local import ingest as ingesting
from infra.local.ingest import Ingested, document_id, ingest
from infra.local.report import find_rows, show_outcome
from services.common.adapters.fetcher_api import FetcherClient
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Database, Document
from services.common.domain.batch import BatchState
from services.common.domain.batch_item import ItemOutcome
from services.common.domain.fetcher_answers import (
    AS_FOUND,
    BatchDetails,
    ItemCounts,
    ItemStatus,
    ListRequest,
    Submission,
)


class DoneFetcher(FetcherClient):
    """A fetcher that has stored every image of the list at once, under the name in its URL."""

    def __init__(self, session: ClientSession, keys: list[str], *, is_page: bool = False) -> None:
        super().__init__(session)
        self._keys = keys
        self._is_page = is_page

    @override
    async def submit_file(
        self,
        content: IO[bytes] | AsyncIterable[bytes],
        *,
        file_name: str,
        request: ListRequest = AS_FOUND,
        idempotency_key: str | None = None,
    ) -> Submission:
        del content, file_name, request, idempotency_key
        return Submission(batch_id="b", accepted=len(self._keys))

    @override
    async def batch(self, batch_id: str) -> BatchDetails:
        counts = ItemCounts(stored=len(self._keys))
        return BatchDetails(batch_id=batch_id, state=BatchState.COMPLETED, counts=counts)

    @override
    async def items(
        self, batch_id: str, *, outcome: str | None = None
    ) -> AsyncGenerator[ItemStatus]:
        del batch_id, outcome
        for key in self._keys:
            url, is_page = f"http://site.test/{key}", self._is_page
            yield ItemStatus(url=url, outcome=ItemOutcome.STORED, key=key, is_page=is_page)


async def ingested(
    database: Database, keys: list[str], folder: Path, *, is_page: bool = False
) -> Ingested:
    """Ingest a list that the fetcher has stored; documents are given up after 0.3 s."""
    path = folder / "list.txt"
    path.write_text("".join(f"http://site.test/{key}\n" for key in keys))
    async with ClientSession() as session:
        return await ingest(
            str(path),
            samples_port=0,
            fetcher=DoneFetcher(session, keys, is_page=is_page),
            database=database,
            console=Console(file=StringIO()),
            stalled_seconds=0.3,
        )


async def insert(database: Database, key: str) -> None:
    prediction = {"text": f"text of {key}", "score": 0.9}
    await database.images.insert(
        {"_id": document_id(key), "key": key, "status": "predicted", "prediction": prediction}
    )


async def test_missing_documents_are_named_and_the_others_shown(
    database: Database, tmp_path: Path
) -> None:
    await insert(database, "there.png")

    found = await ingested(database, ["lost.png", "there.png"], tmp_path)

    assert found.missing == {"raw/lost.png"}
    assert not found.is_complete
    shown = StringIO()
    rows = await find_rows(ImageRepository(database.images), found.document_ids)
    show_outcome(Console(file=shown, width=200), found, rows)
    lines = shown.getvalue().splitlines()
    assert any("there.png" in line and "text of there.png" in line for line in lines)
    assert any("http://site.test/lost.png" in line and "no document" in line for line in lines)
    assert "1 image without document" in shown.getvalue()


async def test_first_ones_that_never_come_do_not_hide_the_rest(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingesting, "IDS_AT_ONCE", 2)
    await insert(database, "last.png")

    found = await ingested(database, ["a.png", "b.png", "c.png", "last.png"], tmp_path)

    assert found.missing == {"raw/a.png", "raw/b.png", "raw/c.png"}


async def test_pages_are_complete_with_their_lines(database: Database, tmp_path: Path) -> None:
    digest = "0" * 64
    pdf = {"_id": "pages/a.pdf", "key": "a.pdf", "status": "segmented", "sha256": digest}
    await database.pages.insert({**pdf, "rendered": 2})
    keys = [f"rendered/{digest}/{number:04d}.webp" for number in (1, 2)]
    line = {"id": "1", "key": "lines/1.webp", "quad": [0] * 8, "order": 0, "state": "current"}
    error = {"code": "no_lines", "detail": "nothing"}
    pages: list[Document] = [
        {"status": "segmented", "lines": [line]},
        {"status": "rejected", "error": error},
    ]
    await database.pages.insert({"_id": f"pages/{keys[0]}", "key": keys[0], **pages[0]})

    found = await ingested(database, ["a.pdf"], tmp_path, is_page=True)
    assert found.missing == {"raw/lines/1.webp", f"pages/{keys[1]}"}

    await insert(database, "lines/1.webp")
    await database.pages.insert({"_id": f"pages/{keys[1]}", "key": keys[1], **pages[1]})
    found = await ingested(database, ["a.pdf"], tmp_path, is_page=True)
    assert found.is_complete
    shown = StringIO()
    rows = await find_rows(ImageRepository(database.images), found.document_ids)
    show_outcome(Console(file=shown, width=200), found, rows)
    assert "1 line among them, of 1 page:" in shown.getvalue()
    assert f"{keys[1]}" in shown.getvalue()
    assert "no_lines" in shown.getvalue()


async def test_list_whose_documents_are_there_is_complete(
    database: Database, tmp_path: Path
) -> None:
    await insert(database, "a.png")

    found = await ingested(database, ["a.png", "a.png"], tmp_path)

    assert not found.missing
    assert found.is_complete
