"""Errors of this project, by whether a retry may succeed.

* PermanentError: the same input fails every time. Record the reason.
* TransientError: this item may succeed later. Retry it after a delay.
* PostponedError: not tried yet. Try it after a delay.
* UnavailableError: a server is down, so every item would fail. Pause consuming. Whatever asks a
  server may raise it; a docstring names it only to say more.

Any other exception is a bug in this project.
"""


class PipelineError(Exception):
    """Base of this project's errors."""

    code: str
    """Stable name of the error: metric label, log field, problem+json code, reason in MongoDB."""

    @classmethod
    def codes(cls) -> frozenset[str]:
        """Return the codes of this class and its imported subclasses."""
        own = {cls.code} if hasattr(cls, "code") else set()
        return frozenset(own.union(*(each.codes() for each in cls.__subclasses__())))


class PermanentError(PipelineError):
    """A retry can't succeed: record the reason."""


class TransientError(PipelineError):
    """A retry after a delay may succeed."""


class PostponedError(PipelineError):
    """The attempt is postponed.

    Args:
        reason: Of the wait.
        seconds: Length of the wait.
        is_reserved: Whether a slot is reserved for that time; otherwise its waits are counted.
    """

    code = "postponed"

    def __init__(self, reason: str, *, seconds: float, is_reserved: bool = False) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.is_reserved = is_reserved


class UnavailableError(PipelineError):
    """A dependency does not answer: no input can succeed until it does."""

    dependency: str
    """Name of the server, as in /readyz."""

    retry_after_seconds: float | None = None
    """The server's ``Retry-After``."""


class InvalidEventError(PermanentError):
    """The message body is not a valid bucket notification."""

    code = "invalid_event"


class ForeignEventError(PermanentError):
    """The event belongs to another bucket."""

    code = "foreign_event"


class ObjectNotFoundError(PermanentError):
    """No object has this key."""

    code = "object_not_found"

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__(f"no object {key!r} in bucket {bucket!r}")
        self.bucket = bucket
        self.key = key


class PredictionRefusedError(PermanentError):
    """The OCR API refused this image permanently."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class ObjectStoreUnavailableError(UnavailableError):
    """The object store does not answer, or answers 5xx."""

    code = "object_store_unavailable"
    dependency = "minio"


class DatabaseUnavailableError(UnavailableError):
    """MongoDB does not answer."""

    code = "index_unavailable"
    dependency = "mongodb"


class BrokerUnavailableError(UnavailableError):
    """RabbitMQ does not answer, or does not confirm."""

    code = "broker_unavailable"
    dependency = "rabbitmq"


class OcrUnavailableError(UnavailableError):
    """The OCR API does not answer, or is overloaded."""

    code = "ocr_unavailable"
    dependency = "ocr-api"

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class DuplicateDocumentError(PermanentError):
    """A document with this ``_id``, or this value of a unique index, exists already."""

    code = "duplicate_document"


class DocumentRefusedError(PermanentError):
    """MongoDB rejects the document permanently: it is too large or invalid."""

    code = "document_refused"
