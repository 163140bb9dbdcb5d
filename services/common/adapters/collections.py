"""The collections of the database, and the indexes that their readers need."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

IMAGES = "images"
PAGES = "pages"
BATCHES = "batches"
FETCHES = "fetches"
LISTS = "lists"
HOSTS = "hosts"
REVIEW_LEASES = "review_leases"
LABEL_STUDIO = "label_studio"
TOMBSTONES = "tombstones"
FORGOTTEN = "forgotten"


class Index(NamedTuple):
    """An index of a collection."""

    fields: tuple[str, ...]
    """In order; ``-`` before one: the largest value first."""
    unique: bool = False
    sparse: bool = False
    """Whether it leaves documents without its fields out."""
    expires: bool = False
    """Whether a document is deleted at the time in its field."""


INDEXES: Mapping[str, Sequence[Index]] = {
    # `_id` last: the tie-breaker of cursors (keyset.py). Of several that have a range's field, the
    # first one whose other fields are given is used (image_repository.py).
    IMAGES: (
        Index(("sources.group", "_id")),
        Index(("sources.batch_id", "prediction.score", "_id")),
        Index(("sources.batch_id", "indexed_at", "_id")),
        Index(("sources.collection", "prediction.score", "_id")),
        Index(("sources.collection", "indexed_at", "_id")),
        Index(("status", "annotation.quality", "prediction.score", "_id")),
        Index(("sources.url",)),
        Index(("sources.name",)),
        Index(("indexed_at", "_id")),
        Index(("prediction.score", "_id")),
        Index(("sha256", "_id")),
        Index(("-disagreement",), sparse=True),
        Index(("double_reading.state", "double_reading.readings.by"), sparse=True),
        Index(("page.id",), sparse=True),
        Index(("placeholder",), sparse=True),
    ),
    PAGES: (
        Index(("sha256",)),
        Index(("document.sha256", "document.number"), sparse=True),
        Index(("document.key",), sparse=True),
        Index(("sources.url",)),
        Index(("sources.batch_id",)),
        Index(("indexed_at", "_id")),
    ),
    BATCHES: (
        Index(("-created_at",)),
        Index(("idempotency_key",), unique=True, sparse=True),
    ),
    FETCHES: (
        Index(("batch_id", "outcome", "_id")),
        Index(("url", "-finished_at")),
        Index(("page", "outcome")),
        Index(("sha256",), sparse=True),
        Index(("key", "finished_at")),
    ),
    LISTS: (Index(("batch_id", "last_line")),),
    HOSTS: (Index(("expires_at",), expires=True),),
    REVIEW_LEASES: (
        Index(("until",)),
        Index(("skipped",)),
        Index(("done_by", "-done_at")),
        Index(("done_at",), sparse=True),
        Index(("answering_by", "-answering_at"), sparse=True),
        Index(("expires_at",), expires=True),
    ),
    TOMBSTONES: (
        Index(("document",)),
        Index(("sha256",)),
        Index(("expires_at",), expires=True),
    ),
}
