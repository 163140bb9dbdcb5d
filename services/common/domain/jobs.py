"""Jobs of the consumer that people queue, beside bucket notifications."""

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from services.common.domain.errors import InvalidEventError
from services.common.domain.image import ImageDocument

_MARK = b'{"repredict":'
"""First bytes of a job's body; no notification starts with them."""


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


def job_for(document: ImageDocument) -> RepredictJob:
    """Return the job for a document in its current state."""
    return RepredictJob(
        document_id=document.id,
        key=document.key,
        etag=document.etag or "",
        replaces=document.prediction.predicted_at if document.prediction else None,
    )


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
        problem = error.errors(include_input=False, include_url=False)[0]
        raise InvalidEventError(f"job: {problem['loc']}: {problem['msg']}") from error
