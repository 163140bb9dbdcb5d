"""The message that asks for an item to be fetched: it says all that the work needs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from services.common.adapters.rabbitmq.settlement import HOST_HEADER
from services.common.domain.errors import PermanentError
from services.common.download.urls import host_of


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

    @property
    def host(self) -> str:
        """Whom the work is about."""
        return host_of(self.url)

    def body(self) -> bytes:
        """Return the message body."""
        return json.dumps(asdict(self), ensure_ascii=False).encode()

    def headers(self) -> Mapping[str, Any]:
        """Return the headers that send it to its partition."""
        return {HOST_HEADER: self.host}


def parse_job(body: bytes) -> Job:
    """Read a message body.

    Raises:
        InvalidJobError: It is no job.
    """
    try:
        content = json.loads(body)
        values: list[Any] = [content[name] for name in ("fetch_id", "batch_id", "url")]
        annotation, page = content.get("annotation"), content.get("page", 0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidJobError(f"not a job: {error!r}"[:200]) from error
    if not all(isinstance(value, str) for value in values):
        raise InvalidJobError("fetch_id, batch_id and url are text")
    if not isinstance(annotation, str | None) or not isinstance(page, int):
        raise InvalidJobError("annotation is not text, or page is no number")
    fetch_id, batch_id, url = values
    return Job(fetch_id, batch_id, url, annotation, page)
