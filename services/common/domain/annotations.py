"""What a person says an image reads: its form, and how it gets into a document.

The ``images`` collection has one other writer, the consumer. Both write only where nobody has
written since they read (the document's ``revision``), so that neither undoes the other's work.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from services.common.adapters.mongo import Collection, Document
from services.common.domain.errors import PermanentError

NORMALISATION = 2
"""Version of ``normalise``; stored with every annotation and named in every export. Version 1 was
plain NFC, which replaces CJK compatibility ideographs; an annotation without a version has it."""

Replaces = Callable[[Mapping[str, Any]], bool]
"""Whether an annotation, as it is in its document, may be replaced."""

MAX_ANNOTATION_LENGTH = 10_000
"""Characters of one line's text."""

BY_BATCH = "batch:"
"""Begins ``annotation.by`` of a text that came with a list; any other value is a person's."""

BYTES_REPLACED_AT = "bytes_replaced_at"
"""Of an earlier annotation: when the image that it is of gave way to another under its key."""

DISPUTED_AT = "disputed_at"
"""Of an earlier annotation: when lists were found to differ about a placeholder."""

SOURCES_DISAGREE = "sources_disagree"
"""``annotation_conflict`` of a placeholder without an annotation: lists differ about its text."""

MOST_EARLIER = 100
"""Annotations in ``annotation_history``; ``annotation_history_count`` goes on."""

_CONTROL = frozenset({"Cc", "Cs"})
"""Unicode categories that no text on an image has (UAX 44, table 12); format characters stay:
some scripts are spelled with them."""
_COMPATIBILITY_IDEOGRAPHS = re.compile("([\uf900-\ufaff\U0002f800-\U0002fa1f]+)")
"""NFC replaces them by unified ideographs (Unicode 17, chapter 18), which look different: they are
variants that names of people and places are written with."""
_BYTE_ORDER_MARK = "\ufeff"
"""No part of a text: the word joiner has replaced its other meaning (Unicode 3.2)."""


class Quality(StrEnum):
    """What a person says of an image."""

    OK = "ok"
    UNREADABLE = "unreadable"
    NOT_A_LINE = "not_a_line"


class Outcome(StrEnum):
    """What became of an annotation."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    CONFLICT = "conflict"
    """The image has another one, which stays."""
    UNKNOWN = "unknown"
    """There is no such image, or it was removed, or its bytes are others now."""


class UnacceptableAnnotationError(PermanentError):
    """The text can't be the annotation of an image."""

    code = "invalid_annotation"


@dataclass(frozen=True)
class Annotation:
    """What one person says of one image; made by ``to_annotation``."""

    text: str
    """Normalised; may be empty unless the quality is ok."""
    quality: Quality
    by: str
    at: datetime | None = None
    """When they said so; None: now."""
    origin: str = ""
    """Address of where they said so, outside this project."""


def compose(text: str) -> str:
    """Return text in NFC, except that CJK compatibility ideographs stay; idempotent."""
    # An ideograph neither reorders nor composes with what is beside it: parts are independent
    parts = _COMPATIBILITY_IDEOGRAPHS.split(text)
    return "".join(
        part if place % 2 else unicodedata.normalize("NFC", part)
        for place, part in enumerate(parts)
    )


def collapse(text: str) -> str:
    """Return text in the form of ``normalise``, whatever is in it; idempotent, never fails."""
    return compose(" ".join(text.replace(_BYTE_ORDER_MARK, "").split()))


def normalise(text: str) -> str:
    """Return the form in which texts are stored, compared and exported.

    Version 2: composed characters (see ``compose``); every run of white space is one space, none
    at the ends; no byte order mark. Case, punctuation and compatibility characters stay as they
    are: they are what the image shows.

    Raises:
        UnacceptableAnnotationError: It has a control character, or is too long.
    """
    # Before spaces are made single: Python's white space includes the separators of ASCII
    strange = next((each for each in text if _is_control(each)), None)
    if strange is not None:
        raise UnacceptableAnnotationError(f"there is a control character: U+{ord(strange):04X}")
    collapsed = collapse(text)
    if len(collapsed) > MAX_ANNOTATION_LENGTH:
        raise UnacceptableAnnotationError(f"more than {MAX_ANNOTATION_LENGTH} characters")
    return collapsed


def to_annotation(
    text: str | None,
    quality: str | None = None,
    *,
    by: str,
    at: datetime | None = None,
    origin: str = "",
) -> Annotation:
    """Check what a person says of an image.

    Raises:
        UnacceptableAnnotationError: The text is none, or missing where the quality is ok, the
            quality is unknown, or the name is reserved for lists.
    """
    known = (quality or "").strip().lower() or Quality.OK.value
    if known not in set(Quality):
        raise UnacceptableAnnotationError(f"the quality is none of {', '.join(Quality)}")
    name = normalise(by)
    if not name or name.startswith(BY_BATCH):
        raise UnacceptableAnnotationError(f"a name is not empty and does not begin by {BY_BATCH}")
    normalised = normalise(text or "")
    if known == Quality.OK and not normalised:
        raise UnacceptableAnnotationError("there is no text, and the quality is ok")
    return Annotation(normalised, Quality(known), name, at, origin)


def given_annotation(text: str, *, batch: str, at: datetime) -> Document:
    """Return the annotation field of a text that came with a list or an object.

    A control character in it is kept, and excludes it from exports: the image is known already.

    Args:
        text: As it came.
        batch: Id of the batch, or what stands for it.
        at: When it was said.
    """
    return _field(collapse(text), Quality.OK, f"{BY_BATCH}{batch}", at)


def _field(text: str, quality: Quality, by: str, at: datetime) -> Document:
    return {
        "text": text,
        "quality": quality.value,
        "by": by,
        "at": at,
        "normalisation": NORMALISATION,
    }


async def annotate(
    images: Collection,
    document_id: str,
    annotation: Annotation,
    *,
    overwrite: bool | Replaces = False,
    dry_run: bool = False,
    etag: str | None = None,
) -> Outcome:
    """Write an annotation into a document, unless it says so already.

    What it replaces goes into ``annotation_history``, earliest first.

    Args:
        images: The collection.
        document_id: ``bucket/key``.
        annotation: What to write.
        overwrite: Whether another person's annotation may be replaced, or which.
        dry_run: Only tell what would become of it.
        etag: The bytes that the person looked at, where that is known.

    Raises:
        IndexUnavailableError: MongoDB does not answer.
    """
    while True:
        document = await images.find_one({"_id": document_id})
        outcome = decide(document, annotation, overwrite=overwrite, etag=etag)
        if document is None or outcome is not Outcome.WRITTEN or dry_run:
            return outcome
        as_read = {"_id": document_id, "revision": document.get("revision")}
        change = {"$set": _fields(document, annotation), "$inc": {"revision": 1}}
        if await images.update_one(as_read, change):
            return outcome


def decide(
    document: Document | None,
    annotation: Annotation,
    *,
    overwrite: bool | Replaces = False,
    etag: str | None = None,
) -> Outcome:
    """Return what an annotation is to a document as it is."""
    if document is None or document.get("status") == "removed":
        return Outcome.UNKNOWN
    if etag is not None and document.get("etag") != etag:
        return Outcome.UNKNOWN
    current = document.get("annotation")
    if current is None:
        return Outcome.WRITTEN
    if _says_the_same(current, annotation):
        return Outcome.UNCHANGED
    may_replace = overwrite(current) if callable(overwrite) else overwrite
    return Outcome.WRITTEN if may_replace else Outcome.CONFLICT


def _says_the_same(current: dict[str, Any], annotation: Annotation) -> bool:
    text = collapse(current.get("text") or "")
    return text == annotation.text and current.get("quality", Quality.OK) == annotation.quality


def _fields(document: Document, annotation: Annotation) -> dict[str, Any]:
    at = annotation.at or datetime.now(tz=UTC)
    fields: dict[str, Any] = {
        "annotation": _field(annotation.text, annotation.quality, annotation.by, at)
    }
    if annotation.origin:
        fields["annotation"]["origin"] = annotation.origin
    earlier = document.get("annotation")
    if earlier is not None:
        fields |= history_fields(document, [*(document.get("annotation_history") or []), earlier])
    return fields


def history_fields(document: Document | None, earlier: Sequence[Document]) -> Document:
    """Return the fields of an image's earlier annotations, of which the last ones are kept.

    Args:
        document: As it is.
        earlier: All that is known of them, earliest first.
    """
    before = document or {}
    known = len(before.get("annotation_history") or [])
    dropped = max(0, (before.get("annotation_history_count") or 0) - known)
    surplus = max(0, len(earlier) - MOST_EARLIER)
    # What people wrote stays longer than what lists said
    by_worth = sorted(range(len(earlier)), key=lambda at: not _is_given(earlier[at]))
    gone = set(by_worth[:surplus])
    return {
        "annotation_history": [each for at, each in enumerate(earlier) if at not in gone],
        "annotation_history_count": dropped + len(earlier),
    }


def _is_given(annotation: Mapping[str, Any]) -> bool:
    return str(annotation.get("by")).startswith(BY_BATCH)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in _CONTROL and character not in "\t\n\r\v\f\x85"
