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
from services.common.adapters.mongo import Database
from services.common.domain.fetcher_answers import AS_FOUND, Batch, Item, ListRequest, Submission

pytestmark = pytest.mark.integration


class DoneFetcher(FetcherClient):
    """A fetcher that has stored every image of the list at once, under the name in its URL."""

    def __init__(self, session: ClientSession, keys: list[str]) -> None:
        super().__init__(session)
        self._keys = keys

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
    async def batch(self, batch_id: str) -> Batch:
        counts = {"queued": 0, "stored": len(self._keys)}
        return Batch(batch_id=batch_id, state="completed", counts=counts)

    @override
    async def items(self, batch_id: str, *, outcome: str | None = None) -> AsyncGenerator[Item]:
        del batch_id, outcome
        for key in self._keys:
            yield Item(url=f"http://site.test/{key}", outcome="stored", key=key)


async def ingested(index: Database, keys: list[str], folder: Path) -> Ingested:
    """Ingest a list that the fetcher has stored; documents are given up after 0.3 s."""
    path = folder / "list.txt"
    path.write_text("".join(f"http://site.test/{key}\n" for key in keys))
    async with ClientSession() as session:
        return await ingest(
            str(path),
            samples_port=0,
            fetcher=DoneFetcher(session, keys),
            database=index,
            console=Console(file=StringIO()),
            stalled_seconds=0.3,
        )


async def insert(index: Database, key: str) -> None:
    prediction = {"text": f"text of {key}", "score": 0.9}
    await index.images.insert(
        {"_id": document_id(key), "key": key, "status": "predicted", "prediction": prediction}
    )


async def test_documents_that_do_not_come_are_named_and_the_others_shown(
    index: Database, tmp_path: Path
) -> None:
    await insert(index, "there.png")

    found = await ingested(index, ["lost.png", "there.png"], tmp_path)

    assert found.missing == {"raw/lost.png"}
    assert not found.is_complete
    shown = StringIO()
    rows = await find_rows(ImageRepository(index.images), found.document_ids)
    show_outcome(Console(file=shown, width=200), found, rows)
    lines = shown.getvalue().splitlines()
    assert any("there.png" in line and "text of there.png" in line for line in lines)
    assert any("http://site.test/lost.png" in line and "no document" in line for line in lines)
    assert "1 images have no document" in shown.getvalue()


async def test_first_ones_that_never_come_do_not_hide_the_rest(
    index: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingesting, "IDS_AT_ONCE", 2)
    await insert(index, "last.png")

    found = await ingested(index, ["a.png", "b.png", "c.png", "last.png"], tmp_path)

    assert found.missing == {"raw/a.png", "raw/b.png", "raw/c.png"}


async def test_list_whose_documents_are_there_is_complete(index: Database, tmp_path: Path) -> None:
    await insert(index, "a.png")

    found = await ingested(index, ["a.png", "a.png"], tmp_path)

    assert not found.missing
    assert found.is_complete
