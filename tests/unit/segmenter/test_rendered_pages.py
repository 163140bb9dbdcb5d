"""Pages of a document are stored a few at a time."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from services.common.adapters.object_store import ObjectStore
from services.common.domain.page_document import PageDocument
from services.common.domain.provenance import Provenance
from services.segmenter import rendered_pages
from services.segmenter.documents import Rendered
from services.segmenter.rendered_pages import render_pages
from services.segmenter.rendering import RenderedPage, Rendering, UnreadableDocumentError
from services.segmenter.settings import SegmenterSettings
from tests.factories import event

SHA256 = "ab" * 32


class EmptyStore:
    """Bucket without rendered pages."""

    async def list(self, prefix: str) -> AsyncIterator[object]:
        for each in prefix[:0]:
            yield each

    async def write_once(self, *_: object, **__: object) -> bool:
        return True


class Opening:
    """Opens a document that sends fewer pages than it says."""

    def __init__(self, *pages: RenderedPage) -> None:
        self._pages = pages
        self.asked: dict[str, float] = {}

    @contextmanager
    def __call__(self, *_: object, **asked: float) -> Iterator[Rendering]:
        self.asked = asked
        yield Rendering(8, iter(self._pages))


async def rendered(opening: Opening, monkeypatch: pytest.MonkeyPatch) -> Rendered | None:
    """Render a document of which four pages were rendered in 7.5 s."""
    monkeypatch.setattr(rendered_pages, "open_document", opening)
    before = PageDocument.absent("pages/a.pdf").having(
        sha256=SHA256, rendered=8, unrendered=4, rendering_seconds=7.5
    )
    store, limits = cast("ObjectStore", EmptyStore()), SegmenterSettings().rendering
    return await render_pages(
        store, event(), Provenance(), (b"%PDF-", SHA256), limits, before=before
    )


async def test_time_of_earlier_pages_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    opening = Opening(*(RenderedPage(number, b"", number / 2) for number in range(5, 9)))

    assert await rendered(opening, monkeypatch) == Rendered(8, 0, 11.5)

    assert opening.asked == {"first": 5, "used": 7.5}


async def test_document_with_fewer_pages_than_it_says_is_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UnreadableDocumentError, match="page 5 of 8"):
        await rendered(Opening(), monkeypatch)
