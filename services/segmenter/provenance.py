"""Keys and metadata of the objects derived from a page."""

import re
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote, unquote

from services.common.domain.errors import PermanentError
from services.common.domain.events import ObjectEvent
from services.common.domain.keys import RENDERED
from services.common.domain.page import Line, PageOfLine
from services.common.domain.page_document import PagePart
from services.common.domain.provenance import Provenance, size_of, to_metadata

DOCUMENT_KEY, DOCUMENT_PAGES = "document-key", "document-pages"
MAX_TEXT_BYTES = 400
"""Limit of a line's text layer, percent-encoded."""
MAX_NAME_BYTES = 200
"""Limit of a person's name, percent-encoded; a longer one is in the page's document alone."""
MAX_KEY_BYTES = 1000
"""Limit of a page's key, percent-encoded, as it is in the metadata of every line."""
MAX_NAMES_BYTES = 1600
"""Limit of a page's key and its group, percent-encoded, for the same reason."""
MAX_USER_BYTES = 2048
"""Limit of S3 for user metadata, names included."""
LEFT_OUT = ("replaces", "by", "text_layer")
"""Fields that are left out of a line's metadata, in this order, if there is no room."""
_RENDERED_KEY = re.compile(rf"{RENDERED}([0-9a-f]{{64}})/(\d{{4,5}})\.webp")


class KeyTooLongError(PermanentError):
    """The key of a page does not fit the metadata of its lines."""

    code = "key_too_long"


def check_key(key: str, group: str) -> None:
    """Check that a page's key and group fit the metadata of its lines.

    Raises:
        KeyTooLongError: They do not.
    """
    size, both = _size(key), _size(key) + _size(group)
    if size > MAX_KEY_BYTES:
        raise KeyTooLongError(f"the key has more than {MAX_KEY_BYTES} bytes, percent-encoded")
    if group != key and both > MAX_NAMES_BYTES:
        raise KeyTooLongError(
            f"key and group have more than {MAX_NAMES_BYTES} bytes, percent-encoded"
        )


def _size(name: str) -> int:
    return len(quote(name, safe="/"))


def rendered_key(sha256: str, number: int) -> str:
    """Return the key of a page of the PDF or TIFF with this hash."""
    return f"{RENDERED}{sha256}/{number:04d}.webp"


def rendered_metadata(event: ObjectEvent, provenance: Provenance, pages: int) -> dict[str, str]:
    """Return the metadata of a rendered page."""
    needed = {DOCUMENT_KEY: quote(event.key, safe="/"), DOCUMENT_PAGES: str(pages)}
    return to_metadata(provenance, needed)


def part_of(event: ObjectEvent) -> PagePart | None:
    """Return the PDF or TIFF of an object in the bucket of pages."""
    matched = _RENDERED_KEY.fullmatch(event.key)
    pages = event.metadata.get(DOCUMENT_PAGES, "")
    if matched is None or not pages.isdigit():
        return None
    key = unquote(event.metadata.get(DOCUMENT_KEY, ""))
    return PagePart(sha256=matched[1], key=key, number=int(matched[2]), of=int(pages))


def group_of(event: ObjectEvent, provenance: Provenance) -> str:
    """Return the group of a page: as given, otherwise its document, otherwise itself."""
    part = part_of(event)
    document = event.document_id if part is None else f"{event.bucket}/{part.key}"
    return provenance.details.group or document


def line_metadata(
    line: Line,
    event: ObjectEvent,
    provenance: Provenance,
    size: tuple[int, int],
    *,
    text: str | None = None,
) -> Mapping[str, str]:
    """Return the metadata of a line's object; a source that does not fit is only in its page's.

    Args:
        line: The line.
        event: Of its page.
        provenance: Of its page, and the text of an annotation.
        size: Width and height of its page, as it is stored.
        text: Of the text layer of the PDF that the page is of; left out if it does not fit.
    """
    part, (width, height) = part_of(event), size
    page = PageOfLine(
        id=event.document_id,
        line=line.id,
        document=part.sha256 if part else None,
        number=part.number if part else None,
        group=group_of(event, provenance),
        quad=line.quad,
        order=line.order,
        run=line.run,
        score=line.score,
        by=line.by if len(quote(line.by or "")) <= MAX_NAME_BYTES else None,
        replaces=line.replaces or None,
        width=width,
        height=height,
    )
    if part is not None and text is not None and len(quote(text, safe="/,")) <= MAX_TEXT_BYTES:
        page = page.having(text_layer=text)
    metadata = _of_line(page, provenance)
    for name in LEFT_OUT:
        if size_of(metadata) > MAX_USER_BYTES:
            page = page.having(**{name: None})
            metadata = _of_line(page, provenance)
    return metadata


def _of_line(page: PageOfLine, provenance: Provenance) -> dict[str, str]:
    annotation = provenance.annotation if page.text_layer else None
    return to_metadata(
        replace(provenance, kind="page", annotation=annotation, fetch_id=None, page=page)
    )
