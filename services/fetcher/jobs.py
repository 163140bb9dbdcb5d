"""Job message of the download of an item."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from services.common.adapters.rabbitmq.retry_policy import HOST_HEADER
from services.common.domain.batch import Batch
from services.common.domain.details import NO_DETAILS, Details
from services.common.domain.errors import PermanentError
from services.common.domain.provenance import KINDS, SourceKind
from services.common.download.urls import host_of
from services.fetcher.sources.addresses import name_of, own_name, split_line
from services.fetcher.sources.lists.rows import ListItem


class InvalidJobError(PermanentError):
    """The message is not a valid job."""

    code = "invalid_job"


@dataclass(frozen=True)
class FetchJob:
    """One item to download."""

    fetch_id: str
    batch_id: str
    url: str
    annotation: str | None = None
    page: int = 0
    """Of its list."""
    kind: SourceKind = "url"
    """Origin of its batch."""
    collection: str | None = None
    details: Details = NO_DETAILS
    by: str | None = None
    """Submitter of its batch."""

    @property
    def host(self) -> str:
        """Host, or submitted file, of the item."""
        return own_name(self.url) or host_of(self.url)

    @property
    def is_page(self) -> bool:
        """Whether the item is a page to be cut into lines."""
        return bool(self.details.is_page)

    @property
    def name(self) -> str | None:
        """Displayed name of the item, if not its URL."""
        return self.details.name or name_of(self.url)

    @property
    def source_kind(self) -> SourceKind:
        """Origin of this item: a list may hold members of archives, and lines of pages."""
        if split_line(self.url) is not None:
            return "page"
        if self.kind == "url" and name_of(self.url) is not None:
            return "archive" if "#" in self.url else "upload"
        return self.kind

    def body(self) -> bytes:
        """Return the message body."""
        return json.dumps(asdict(self), ensure_ascii=False).encode()

    def headers(self) -> Mapping[str, Any]:
        """Return the headers that route it to its partition."""
        return {HOST_HEADER: self.host}


def job_of(batch: Batch, fetch_id: str, item: ListItem, page: int) -> FetchJob:
    """Return the job of an item, completed by licence and data set of its batch."""
    own = None if batch.is_collection_given else item.details.collection
    of_batch = Details(licence=batch.licence, metadata=batch.reading.data_set or None)
    details = item.details.completed_by(of_batch)
    known = (fetch_id, batch.id, item.url, item.annotation, page, batch.kind)
    return FetchJob(*known, own or batch.collection, replace(details, collection=None), batch.by)


def parse_job(body: bytes) -> FetchJob:
    """Parse a message body.

    Raises:
        InvalidJobError: It is not a valid job.
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
        raise InvalidJobError("fetch_id, batch_id and url must be text")
    if not isinstance(annotation, str | None) or not isinstance(page, int):
        raise InvalidJobError("annotation must be text, page a number")
    if kind not in KINDS or not all(isinstance(value, str | None) for value in (collection, by)):
        raise InvalidJobError("unknown kind, or collection or by is not text")
    fetch_id, batch_id, url = values
    return FetchJob(fetch_id, batch_id, url, annotation, page, kind, collection, details, by)
