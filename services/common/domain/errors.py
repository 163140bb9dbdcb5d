"""Every error this project raises on purpose, sorted by one question: would a retry help?

* PermanentError: the same input fails every time. Record the reason.
* TransientError: this one item may succeed later. Retry it after a delay.
* PostponedError: nothing was tried yet; come again after a delay.
* UnavailableError: a server is down, so every item would fail. Stop, wait, go on.

Whatever is none of these is a bug in this project.
"""


class PipelineError(Exception):
    """Base of the errors that this project raises on purpose."""

    code: str
    """Stable name of the error: metric label, log field, problem+json code, reason in MongoDB."""

    @classmethod
    def codes(cls) -> frozenset[str]:
        """Return the codes of this error and of all below it that this process has imported."""
        own = {cls.code} if hasattr(cls, "code") else set()
        return frozenset(own.union(*(each.codes() for each in cls.__subclasses__())))


class PermanentError(PipelineError):
    """The same input fails every time: record the reason, do not retry."""


class TransientError(PipelineError):
    """The same input may succeed later: retry it after a delay."""


class PostponedError(PipelineError):
    """It cannot be tried yet: the same attempt is due after a delay.

    Args:
        reason: What it waits for.
        seconds: How long that will take.
        is_reserved: Whether it is expected then, and not before; else it counts how often it waits.
    """

    code = "postponed"

    def __init__(self, reason: str, *, seconds: float, is_reserved: bool = False) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.is_reserved = is_reserved


class UnavailableError(PipelineError):
    """A server this service needs does not answer: no input can succeed until it does."""

    dependency: str
    """Name of the server, as /readyz shows it."""

    retry_after_seconds: float | None = None
    """What the server said about when to come again."""


class InvalidEventError(PermanentError):
    """The message body is not a bucket notification that this project understands."""

    code = "invalid_event"


class ObjectNotFoundError(PermanentError):
    """No object has this key."""

    code = "object_not_found"

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__(f"no object {key!r} in bucket {bucket!r}")
        self.bucket = bucket
        self.key = key


class PredictionRefusedError(PermanentError):
    """The OCR API will never read this image.

    Args:
        code: The API's own problem code, for instance ``undecodable_image``.
        detail: What it said about the image.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class ObjectStoreUnavailableError(UnavailableError):
    """The object store does not answer, or answers 5xx."""

    code = "object_store_unavailable"
    dependency = "minio"


class IndexUnavailableError(UnavailableError):
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
