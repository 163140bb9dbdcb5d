"""Rejected rows, and the errors of files that are refused as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.domain.errors import PermanentError
from services.common.domain.redaction import hide_secrets

SHOWN_VALUE_LENGTH = 100
"""Shown characters of a rejected row."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejected row with the reason."""

    line: int
    value: str
    """The row, truncated."""
    code: str
    detail: str


def reject(line: int, value: object, code: str, detail: str) -> Rejection:
    """Create a rejection; ``value`` is truncated and redacted."""
    text = hide_secrets(str(value).strip())
    if len(text) > SHOWN_VALUE_LENGTH:
        text = f"{text[:SHOWN_VALUE_LENGTH]}…"
    return Rejection(line, text.encode(errors="replace").decode(), code, detail)


class UnreadableFileError(PermanentError):
    """The file as a whole can't be read: a list, an archive, or its compression."""

    def __init__(self, detail: str, rejected: Sequence[Rejection] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.rejected = tuple(rejected)


class MalformedListError(UnreadableFileError):
    """The list as a whole can't be read."""

    code = "malformed_list"


class ListTooLargeError(PermanentError):
    """The list is larger than its limit in bytes."""

    code = "list_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} bytes")


class ItemTooLargeError(PermanentError):
    """The image or page that was sent is larger than its limit in bytes."""

    code = "image_too_large"


class UnsupportedListFormatError(PermanentError):
    """The file is none that items are read from."""

    code = "unsupported_list_format"
