"""Convert an ``ImageFilter`` to a query of ``images`` and choose its index.

See docs/decisions/0036-one-filter-of-images.md.
"""

import re
import unicodedata
from collections.abc import Iterable
from string import ascii_lowercase
from typing import Any

from services.common.adapters.collections import IMAGES, INDEXES
from services.common.adapters.mongo import Document
from services.common.domain.image_filter import ImageFilter

_SEARCHED = ("prediction.text", "annotation.text", "key", "sources.name", "sources.url")
_SMALL = "sources.group"
"""Selective fields: all matching images are read, in any order."""


def _base(character: str) -> str:
    return unicodedata.normalize("NFD", character)[0].lower()


_QUOTES = ("'\u2019\u2018\u02bc", '"\u201c\u201d\u00ab\u00bb')
_LATIN = [chr(each) for part in (range(0xC0, 0x250), range(0x1E00, 0x1F00)) for each in part]
_ACCENTED = {
    base: "".join([base, *(each for each in _LATIN if _base(each) == base)])
    for base in ascii_lowercase
}
_COMBINING = "[\u0300-\u036f]*"


def to_query(where: ImageFilter) -> Document:
    """Return a filter for MongoDB, indexed conditions first."""
    limits, ignored = where.limits, None
    stored = {"$gte": limits.since, "$lt": limits.until}
    query: Document = {
        "_id": _any_of(where.ids),
        "sha256": _any_of(where.hashes),
        "page.id": _any_of(where.pages),
        "placeholder": where.is_placeholder or ignored,
        "double_reading.state": _any_of(where.double or ignored),
        "double_reading.readings.by": where.reader
        or (where.not_reader and {"$ne": where.not_reader}),
        **_of_source(where),
        "indexed_at": where.changed_since and {"$gte": where.changed_since},
        "status": _any_of(where.status or ignored),
        "bucket": where.bucket,
        "stored_at": {name: at for name, at in stored.items() if at} or ignored,
        "prediction.score": where.scores and {"$gte": where.scores[0], "$lte": where.scores[1]},
        "prediction.model_version": where.read_by
        or (where.not_read_by and {"$ne": where.not_read_by}),
        "etag": {"$type": "string"} if where.is_stored else ignored,
        "$and": list(_alternatives(where)) or ignored,
    }
    query = {name: condition for name, condition in query.items() if condition is not ignored}
    if where.annotated is not None:
        is_any = {"True": {"$ne": None}, "False": None}
        query["annotation.quality"] = is_any.get(str(where.annotated), str(where.annotated))
    return query


def narrowed(query: Document, field: str, range_: Document) -> tuple[Document, Document]:
    """Split a range query into an indexed stage and the rest.

    MongoDB's stand-in uses a compound index only without other conditions, and none beside
    ``$and``, so two stages are needed. MongoDB itself merges both stages.
    """
    if _SMALL in query:
        return {_SMALL: query[_SMALL]}, {"$and": [range_, query]}
    for names in (each.fields for each in INDEXES[IMAGES]):
        known = names[: names.index(field)] if field in names else None
        if known is not None and all(_is_one_value(query, name) for name in known):
            return {**{name: query[name] for name in known}, **range_}, query
    return range_, query


def _is_one_value(query: Document, name: str) -> bool:
    return name in query and not isinstance(query[name], dict)


def _of_source(where: ImageFilter) -> Document:
    """Return the condition that one source of an image matches all conditions of sources."""
    limits = where.limits
    source: dict[str, Any] = {
        "url": _any_of(where.urls),
        "name": where.name,
        "group": limits.group,
        "batch_id": limits.batch,
        "collection": limits.collection,
        **{f"metadata.{key}": _any_of(values) for key, values in limits.metadata.items()},
    }
    url_pattern = where.url_pattern
    if where.host:
        url_pattern = f"(?i)^https?://([^/?#]*@)?{re.escape(where.host)}([:/?#]|$)"
    # Last: no index finds them
    for name, pattern in (("url", url_pattern), ("name", where.name_pattern)):
        if pattern:
            source.pop(name)
            source[name] = {"$regex": pattern}
    source = {name: condition for name, condition in source.items() if condition is not None}
    first = {f"sources.{name}": condition for name, condition in list(source.items())[:1]}
    return first if len(source) < 2 else {**first, "sources": {"$elemMatch": source}}


def _containing(text: str) -> str:
    """Return a pattern of a text, with and without accents, and with any apostrophes and quotes."""
    return "".join(map(_as_any_form, unicodedata.normalize("NFC", text)))


def _as_any_form(character: str) -> str:
    for forms in _QUOTES:
        if character in forms:
            return f"[{forms}]"
    accented = _ACCENTED.get(_base(character))
    return f"[{accented}]{_COMBINING}" if accented else re.escape(character)


def _alternatives(where: ImageFilter) -> Iterable[Document]:
    if where.text:
        containing = {"$regex": _containing(where.text), "$options": "i"}
        yield {"$or": [{name: containing} for name in _SEARCHED]}
    if where.is_labelled:
        yield {"$or": [{name: {"$ne": None}} for name in ("annotation", "annotation_conflict")]}


def _any_of(values: Iterable[object] | None) -> object:
    """Return the condition that a field has one of some values; None: any value."""
    if values is None:
        return None
    several = list(values)
    return several[0] if len(several) == 1 else {"$in": several}
