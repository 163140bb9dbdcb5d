"""Lists as plain text: one URL a line, blank lines and ``#`` comments between them."""

from collections.abc import Iterable, Iterator

from services.fetcher.lists.lines import MAX_LINE_LENGTH, Line
from services.fetcher.lists.rows import Row, reject, to_row


def parse_text(lines: Iterable[Line]) -> Iterator[Row]:
    """Yield an item or a rejection for each line that is neither blank nor a comment."""
    for line in lines:
        text = line.text.strip()
        if not line.is_whole:
            detail = f"more than {MAX_LINE_LENGTH} characters"
            yield reject(line.number, text, "line_too_long", detail)
        elif text and not text.startswith("#"):
            yield to_row(line.number, text)
