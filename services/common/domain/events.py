"""Messages of the consumer: bucket notifications of MinIO, through RabbitMQ, and jobs of people.

Format: the S3 event message structure, with MinIO's deviations (recorded bodies in
tests/contract/minio_events): keys are query-escaped, a zero-byte object has no ``size``, and tag
changes count as ``ObjectCreated``.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from urllib.parse import unquote_plus

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from services.common.domain.errors import InvalidEventError
from services.common.domain.records import first_problem

_METADATA_PREFIX = "x-amz-meta-"
CREATED_EVENTS: Final = (
    "s3:ObjectCreated:CompleteMultipartUpload",
    "s3:ObjectCreated:Copy",
    "s3:ObjectCreated:Post",
    "s3:ObjectCreated:Put",
)
"""MinIO's names of writes, in alphabetical order. Not ``s3:ObjectCreated:*``: it includes changed
tags, which need no new prediction."""
_REMOVED_EVENTS = (
    "s3:ObjectRemoved:Delete",
    "s3:ObjectRemoved:DeleteAllVersions",
    "s3:ObjectRemoved:DeleteMarkerCreated",
)

_MARK = b'{"repredict":'
"""First bytes of a job's body; no notification starts with them."""


class EventKind(StrEnum):
    """Kind of an event."""

    CREATED = "created"
    REMOVED = "removed"
    IGNORED = "ignored"
    """The bytes are unchanged (tags), or there are none (NoOP)."""


@dataclass(frozen=True)
class ObjectEvent:
    """One record of a bucket notification."""

    kind: EventKind
    name: str
    """MinIO's event name, for instance ``s3:ObjectCreated:Put``."""
    bucket: str
    key: str
    """Object key, not escaped."""
    sequencer: str
    """Hexadecimal; orders the events of a key (see ``sequence_order``)."""
    occurred_at: AwareDatetime
    etag: str | None = None
    size: int | None = None
    """Bytes."""
    content_type: str | None = None
    uploaded_by: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    """User metadata, names in lower case without ``x-amz-meta-``, raw values."""

    @property
    def document_id(self) -> str:
        """``_id`` of the object's document in ``images``."""
        return f"{self.bucket}/{self.key}"

    def is_older_than(self, sequencer: str | None) -> bool:
        """Return whether a document with this sequencer reflects a later event of the object."""
        return bool(sequencer) and sequence_order(self.sequencer) < sequence_order(sequencer or "")


def sequence_order(sequencer: str) -> tuple[int, str]:
    """Sort key of a sequencer, a hexadecimal number of any length."""
    digits = sequencer.lstrip("0").upper()
    return len(digits), digits


def parse_notification(body: bytes) -> list[ObjectEvent]:
    """Parse the body of a bucket notification.

    Raises:
        InvalidEventError: ``body`` is not JSON, misses a field, or has no record.
    """
    try:
        notification = _Notification.model_validate_json(body)
    except ValidationError as error:
        raise InvalidEventError(first_problem(error, whole="body")) from error
    return [_to_event(record) for record in notification.records]


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Bucket(_Model):
    name: str = Field(min_length=1)


class _Object(_Model):
    key: str = Field(min_length=1)
    sequencer: str = Field(pattern=r"^[0-9A-Fa-f]{1,64}$")
    size: int | None = Field(None, ge=0)
    etag: str | None = Field(None, alias="eTag")
    content_type: str | None = Field(None, alias="contentType")
    user_metadata: dict[str, str] = Field(default_factory=dict, alias="userMetadata")


class _S3(_Model):
    bucket: _Bucket
    object: _Object


class _Record(_Model):
    event_name: str = Field(alias="eventName", min_length=1)
    event_time: AwareDatetime = Field(alias="eventTime")
    user_identity: dict[str, Any] = Field(default_factory=dict, alias="userIdentity")
    s3: _S3


class _Notification(_Model):
    records: list[_Record] = Field(alias="Records", min_length=1)


def _to_event(record: _Record) -> ObjectEvent:
    stored = record.s3.object
    kind = _kind(record.event_name)
    size = stored.size
    if kind is EventKind.CREATED and size is None:
        size = 0  # MinIO leaves the field out when it is zero
    return ObjectEvent(
        kind=kind,
        name=record.event_name,
        bucket=record.s3.bucket.name,
        key=unquote_plus(stored.key),
        sequencer=stored.sequencer,
        occurred_at=record.event_time,
        etag=stored.etag,
        size=size,
        content_type=stored.content_type,
        uploaded_by=record.user_identity.get("principalId") or None,
        metadata=_metadata(stored.user_metadata),
    )


def _kind(event_name: str) -> EventKind:
    if event_name in CREATED_EVENTS:
        return EventKind.CREATED
    if event_name in _REMOVED_EVENTS:
        return EventKind.REMOVED
    return EventKind.IGNORED


def _metadata(raw: dict[str, str]) -> dict[str, str]:
    return {
        name.lower().removeprefix(_METADATA_PREFIX): value
        for name, value in raw.items()
        if name.lower().startswith(_METADATA_PREFIX)
    }


class RepredictJob(BaseModel):
    """Job to read an image again, unless its document has changed since."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    document_id: str = Field(min_length=1)
    key: str = Field(min_length=1)
    etag: str
    """Of the document's bytes."""
    replaces: AwareDatetime | None
    """``predicted_at`` of the prediction to replace; None if there is none."""

    def body(self) -> bytes:
        """Return the message body."""
        return _MARK + self.model_dump_json().encode() + b"}"


class _Body(BaseModel):
    repredict: RepredictJob


def parse_job(body: bytes) -> RepredictJob | None:
    """Parse a job, or return None for another message.

    Raises:
        InvalidEventError: The job is invalid.
    """
    if not body.startswith(_MARK):
        return None
    try:
        return _Body.model_validate_json(body).repredict
    except ValidationError as error:
        raise InvalidEventError(f"job: {first_problem(error, whole='body')}") from error
