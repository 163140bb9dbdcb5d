"""Texts that the queue offers for an image: what models have read, and people have typed."""

from collections.abc import Iterator
from typing import NamedTuple

from services.common.domain.annotations import as_typed
from services.common.domain.image import ImageDocument
from services.common.domain.records import Annotation
from services.common.domain.texts import Text

READING_KEYS = "JKLM"
"""Of the texts that are offered; further ones are only clicked."""


class Offered(NamedTuple):
    """A text that a key puts into the input."""

    text: str
    origin: Text
    key: str


def offered_texts(document: ImageDocument, *, with_typed: bool) -> list[Offered]:
    """Return what models have read in an image and people have typed, each text once."""
    read = [
        (
            as_typed(each.text),
            Text("%(model)s, %(score)s", {"model": each.model, "score": each.score_in_words}),
        )
        for each in document.readings
    ]
    if document.page and document.page.text_layer:
        read.append((as_typed(document.page.text_layer), Text("text layer of the PDF")))
    typed = [(each.text, _origin(each)) for each in _typed(document) if with_typed]
    origins = [*typed, *read] if document.is_undecided else [*read, *typed]
    first = dict(reversed(origins))
    texts = dict.fromkeys(text for text, _ in origins)
    keys = [*READING_KEYS, *[""] * len(texts)]
    return [Offered(text, first[text], key) for text, key in zip(texts, keys, strict=False)]


def _typed(document: ImageDocument) -> Iterator[Annotation]:
    """Yield texts of people and lists: first what two people read."""
    double = document.double_reading
    readings = double.readings if double else ()
    for each in (*readings, *reversed(document.annotation_history), document.annotation):
        if each and each.text and not each.bytes_replaced_at:
            yield each


def _origin(typed: Annotation) -> Text:
    """Say who has typed a text."""
    by = {"name": typed.by}
    if typed.came_with_list:
        return (
            Text("given by %(name)s, undone", by)
            if typed.undone_at
            else Text("given by %(name)s", by)
        )
    return (
        Text("typed by %(name)s, undone", by) if typed.undone_at else Text("typed by %(name)s", by)
    )
