"""Objects of the store, as others than its client see them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from services.common.domain.errors import PermanentError


@dataclass(frozen=True)
class ObjectInfo:
    """Metadata of an object."""

    key: str
    etag: str
    size: int
    """Bytes."""
    stored_at: datetime
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    """User metadata, names in lower case."""


@dataclass(frozen=True)
class LoadedObject:
    """An object and its bytes, of the same version."""

    info: ObjectInfo
    content: bytes


class UnreadableObjectError(PermanentError):
    """The client can't read the object, whose headers are not UTF-8; others it can."""

    code = "unreadable_object"


class ObjectTooLargeError(PermanentError):
    """The object exceeds the reader's limit."""

    code = "image_too_large"

    def __init__(self, info: ObjectInfo, max_bytes: int) -> None:
        super().__init__(f"{info.size} bytes, the limit is {max_bytes}")
        self.info = info
