"""Lists as JSON: ``{"items": [{"url": …, "annotation": …}], "name": …}``, or an item a line."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from services.common.download.urls import UnacceptableUrlError, to_url
from services.fetcher.lists.lines import MAX_LINE_LENGTH, Line
from services.fetcher.lists.rows import MalformedListError, Row, is_text, reject, to_row

MAX_NAME_LENGTH = 200


def load_document(content: bytes) -> dict[str, Any]:
    """Return what was sent as JSON.

    Raises:
        MalformedListError: It is not an object.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        detail = f"not valid JSON: {error}"
        raise MalformedListError(detail, [reject(line, "", "malformed_json", detail)]) from error
    if not isinstance(document, dict):
        raise MalformedListError('a JSON list is an object: {"items": [{"url": "https://…"}]}')
    return document


def load_items(document: Mapping[str, Any]) -> tuple[str | None, Sequence[Any]]:
    """Return a list's name and its items as they were sent.

    Raises:
        MalformedListError: There are none.
    """
    items = document.get("items")
    if not isinstance(items, list):
        raise MalformedListError('"items" is missing, or is not an array')
    return to_name(document.get("name")), items


def list_url_of(document: Mapping[str, Any]) -> str | None:
    """Return the address of the list where one is sent in its place, or None.

    Raises:
        MalformedListError: It is not an address, or there are items besides.
    """
    if "list_url" not in document:
        return None
    if "items" in document:
        raise MalformedListError('either "items" or "list_url", not both')
    try:
        return str(to_url(str(document["list_url"])))
    except UnacceptableUrlError as error:
        raise MalformedListError(f'"list_url": {error.detail}') from error


def to_name(name: object) -> str | None:
    """Check the name that a person gave a list.

    Raises:
        MalformedListError: It is too long, or not text.
    """
    if name is None or name == "":
        return None
    if not isinstance(name, str) or len(name) > MAX_NAME_LENGTH or not is_text(name):
        raise MalformedListError(f'"name" is not a text of at most {MAX_NAME_LENGTH} characters')
    return name


def parse_items(items: Sequence[Any]) -> Iterator[Row]:
    """Yield an item or a rejection for each element; its place counts as its line."""
    for place, item in enumerate(items, start=1):
        yield _to_row(place, item)


def parse_json_lines(lines: Iterable[Line]) -> Iterator[Row]:
    """Yield an item or a rejection for each line that is not blank."""
    for line in lines:
        if not line.is_whole:
            detail = f"more than {MAX_LINE_LENGTH} characters"
            yield reject(line.number, line.text, "line_too_long", detail)
        elif line.text.strip():
            yield _from_json(line)


def _from_json(line: Line) -> Row:
    try:
        item = json.loads(line.text)
    except (ValueError, RecursionError) as error:
        return reject(line.number, line.text, "malformed_row", f"not valid JSON: {error}")
    return _to_row(line.number, item)


def _to_row(place: int, item: object) -> Row:
    if isinstance(item, dict):
        return to_row(place, item.get("url"), item.get("annotation"))
    return reject(place, item, "malformed_row", 'an item is an object with a "url"')
