"""Work that a person asks the consumer for, beside what bucket notifications bring."""

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from services.common.domain.errors import InvalidEventError
from services.common.domain.image import ImageDocument

_MARK = b'{"repredict":'
"""How a job's body begins; no notification does."""


class RepredictJob(BaseModel):
    """Read an image again, unless its document has changed since the job was made."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    document_id: str = Field(min_length=1)
    key: str = Field(min_length=1)
    etag: str
    """Of the bytes that the document is about."""
    replaces: AwareDatetime | None
    """``predicted_at`` of the prediction that is to be replaced; None where there is none."""

    def body(self) -> bytes:
        """Return the message body."""
        return _MARK + self.model_dump_json().encode() + b"}"


class _Body(BaseModel):
    repredict: RepredictJob


def job_for(document: ImageDocument) -> RepredictJob:
    """Return the job for a document, which has bytes, as it is now."""
    return RepredictJob(
        document_id=document.id,
        key=document.key,
        etag=document.etag or "",
        replaces=document.prediction.predicted_at if document.prediction else None,
    )


def parse_job(body: bytes) -> RepredictJob | None:
    """Return the job of a message body, or None where it is something else.

    Raises:
        InvalidEventError: It says that it is a job, and is not a valid one.
    """
    if not body.startswith(_MARK):
        return None
    try:
        return _Body.model_validate_json(body).repredict
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        raise InvalidEventError(f"job: {problem['loc']}: {problem['msg']}") from error
