"""The message that asks for an item to be fetched: it says all that the work needs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from services.common.adapters.rabbitmq.settlement import HOST_HEADER
from services.common.domain.batch import Batch
from services.common.domain.details import NO_DETAILS, Details
from services.common.domain.errors import PermanentError
from services.common.domain.provenance import KINDS, SourceKind
from services.common.download.urls import host_of
from services.fetcher.sources.addresses import name_of, own_name
from services.fetcher.sources.lists.rows import Item


class InvalidJobError(PermanentError):
    """The message names no item of a batch."""

    code = "invalid_job"


@dataclass(frozen=True)
class Job:
    """One item to fetch."""

    fetch_id: str
    batch_id: str
    url: str
    annotation: str | None = None
    page: int = 0
    """Of its list."""
    kind: SourceKind = "url"
    """By which way its batch came."""
    collection: str | None = None
    details: Details = NO_DETAILS
    by: str | None = None
    """Who submitted its batch."""

    @property
    def host(self) -> str:
        """Whom the work is about: a host, or a file that was sent."""
        return own_name(self.url) or host_of(self.url)

    @property
    def name(self) -> str | None:
        """By which a person knows the item, where that is not its URL."""
        return name_of(self.url)

    @property
    def source_kind(self) -> SourceKind:
        """By which way this item came: a list may hold members of archives."""
        if self.kind == "url" and self.name is not None:
            return "archive" if "#" in self.url else "upload"
        return self.kind

    def body(self) -> bytes:
        """Return the message body."""
        return json.dumps(asdict(self), ensure_ascii=False).encode()

    def headers(self) -> Mapping[str, Any]:
        """Return the headers that send it to its partition."""
        return {HOST_HEADER: self.host}


def job_of(batch: Batch, fetch_id: str, item: Item, page: int) -> Job:
    """Return the job of an item; the licence of its batch applies unless it has its own."""
    details = item.details.completed_by(Details(licence=batch.licence))
    known = (fetch_id, batch.id, item.url, item.annotation, page)
    return Job(*known, batch.kind, batch.collection, details, batch.by)


def parse_job(body: bytes) -> Job:
    """Read a message body.

    Raises:
        InvalidJobError: It is no job.
    """
    try:
        content = json.loads(body)
        values: list[Any] = [content[name] for name in ("fetch_id", "batch_id", "url")]
        annotation, page = content.get("annotation"), content.get("page", 0)
        kind, collection = content.get("kind", "url"), content.get("collection")
        details, by = Details.from_fields(content.get("details") or {}), content.get("by")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidJobError(f"not a job: {error!r}"[:200]) from error
    if not all(isinstance(value, str) for value in values):
        raise InvalidJobError("fetch_id, batch_id and url are text")
    if not isinstance(annotation, str | None) or not isinstance(page, int):
        raise InvalidJobError("annotation is not text, or page is no number")
    if kind not in KINDS or not all(isinstance(value, str | None) for value in (collection, by)):
        raise InvalidJobError("kind is none that there is, or collection or by is not text")
    fetch_id, batch_id, url = values
    return Job(fetch_id, batch_id, url, annotation, page, kind, collection, details, by)
