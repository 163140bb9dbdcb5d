"""A page of documents that a search found, and its cursor in an address."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Generic, TypeVar

from services.common.adapters.keyset import Cursor, Page, SortKey, cursor_behind
from services.common.domain.errors import PermanentError
from services.common.domain.records import StoredRecord

D = TypeVar("D", bound=StoredRecord)


class InvalidCursorError(PermanentError):
    """The cursor is invalid."""

    code = "invalid_cursor"


@dataclass(frozen=True)
class FoundPage(Generic[D]):
    """A page of documents."""

    documents: list[D]
    next: str | None
    """Cursor of the next page; None at the end."""
    is_cut: bool
    """Whether the search timed out before the page was full."""


async def fill_page(
    parts: AsyncIterator[Page[D]],
    key: SortKey,
    *,
    size: int,
    seconds: float,
    matches: Callable[[D], bool] | None = None,
) -> FoundPage[D]:
    """Return one page of documents.

    Args:
        parts: Of the documents; see ``paginate``.
        key: Their order.
        size: Documents per page.
        seconds: Time limit.
        matches: Whether a document is shown; None: all are.
    """
    deadline, after = monotonic() + seconds, None
    found: list[D] = []
    async for part in parts:
        found += filter(matches, part.documents) if matches else part.documents
        after = part.next
        if len(found) > size or (len(found) == size and after):
            last = cursor_behind(found[size - 1], key)
            return FoundPage(found[:size], encode(last), is_cut=False)
        if after is None or monotonic() > deadline:
            break
    return FoundPage(found, encode(after) if after else None, is_cut=after is not None)


def encode(cursor: Cursor) -> str:
    """Encode a cursor for a URL."""
    value = cursor.value
    said = value.isoformat() if isinstance(value, datetime) else value
    return urlsafe_b64encode(json.dumps([said, cursor.document_id]).encode()).decode()


def decode(text: str, key: SortKey) -> Cursor:
    """Decode a cursor of a URL.

    Raises:
        InvalidCursorError: It is invalid for this sort key.
    """
    try:
        said, document_id = json.loads(urlsafe_b64decode(text))
        is_time = isinstance(key.first, datetime)
        value: Any = datetime.fromisoformat(said).astimezone(UTC) if is_time else float(said)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidCursorError("invalid cursor in the address") from error
    if not min(key.first, key.last) <= value <= max(key.first, key.last):
        raise InvalidCursorError("the cursor in the address is not within the order")
    return Cursor(value, None if document_id is None else str(document_id))
