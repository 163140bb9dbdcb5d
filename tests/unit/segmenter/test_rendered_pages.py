"""Pages of a document are stored a few at a time."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from services.common.adapters.object_store import ObjectStore
from services.common.domain.page_document import PageDocument
from services.common.domain.provenance import Provenance
from services.segmenter import rendered_pages
from services.segmenter.rendered_pages import render_pages
from services.segmenter.rendering import Rendering, UnreadableDocumentError
from services.segmenter.settings import SegmenterSettings
from tests.factories import event


class EmptyStore:
    """Bucket without rendered pages."""

    async def list(self, prefix: str) -> AsyncIterator[object]:
        for each in prefix[:0]:
            yield each


async def test_document_with_fewer_pages_than_it_says_is_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def opened(*_: object, **__: object) -> Iterator[Rendering]:
        yield Rendering(2, iter(()))

    monkeypatch.setattr(rendered_pages, "open_document", opened)
    store, limits = cast("ObjectStore", EmptyStore()), SegmenterSettings().rendering
    before = PageDocument.absent("pages/a.pdf")

    with pytest.raises(UnreadableDocumentError, match="page 1 of 2"):
        await render_pages(
            store, event(), Provenance(), (b"%PDF-", "ab" * 32), limits, before=before
        )
