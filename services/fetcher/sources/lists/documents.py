"""JSON documents of lists: ``{"items": [{"url": …, "annotation": …}], "name": …}``, or an array."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.common.domain.details import is_text
from services.common.domain.tables.json_rows import load_json
from services.common.download.urls import UnacceptableUrlError, to_url
from services.fetcher.sources.errors import MalformedListError, reject

MAX_NAME_LENGTH = 200
_MAX_MEMBERS = 50
_MAX_MEMBER_LENGTH = 301
"""One more than any parameter may have, so that a longer one is refused, not cut."""


def load_document(content: bytes) -> Mapping[str, Any]:
    """Parse a JSON document; an array becomes the items of a list.

    Raises:
        MalformedListError: It is neither an object nor an array.
    """
    try:
        document = load_json(content)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        detail = f"not valid JSON: {error}"
        raise MalformedListError(detail, [reject(line, "", "malformed_json", detail)]) from error
    if isinstance(document, list):
        return {"items": document}
    if not isinstance(document, dict):
        raise MalformedListError('a JSON list must be an object: {"items": [{"url": "https://…"}]}')
    return document


def items_of(document: Mapping[str, Any]) -> Sequence[Any]:
    """Return a list's raw items.

    Raises:
        MalformedListError: They are missing.
    """
    items = document.get("items")
    if not isinstance(items, list):
        raise MalformedListError('"items" is missing, or is not an array')
    return items


def list_url_of(document: Mapping[str, Any]) -> str | None:
    """Return the URL of the list, if there is one instead of items.

    Raises:
        MalformedListError: It is not a URL, or there are items, too.
    """
    if "list_url" not in document:
        return None
    if "items" in document:
        raise MalformedListError('either "items" or "list_url", not both')
    try:
        return str(to_url(str(document["list_url"])))
    except UnacceptableUrlError as error:
        raise MalformedListError(f'"list_url": {error.detail}') from error


def members_of(document: Mapping[str, Any]) -> dict[str, str | bool | list[None] | None]:
    """Return the other members, truncated; a non-scalar becomes ``[]``."""
    others = [name for name in document if name not in {"items", "list_url", "name"}]
    return {
        name[:_MAX_MEMBER_LENGTH].encode(errors="replace").decode(): _scalar(document[name])
        for name in others[:_MAX_MEMBERS]
    }


def _scalar(value: object) -> str | bool | list[None] | None:
    if isinstance(value, str):
        return value[:_MAX_MEMBER_LENGTH].encode(errors="replace").decode()
    return value if isinstance(value, bool | None) else []


def to_name(name: object) -> str | None:
    """Validate the name of a list.

    Raises:
        MalformedListError: It is too long, or not text.
    """
    if name is None or name == "":
        return None
    if not isinstance(name, str) or len(name) > MAX_NAME_LENGTH or not is_text(name):
        raise MalformedListError(f'"name" is not a text of at most {MAX_NAME_LENGTH} characters')
    return name
