"""Requests and responses of the OCR API."""

from pydantic import BaseModel, ConfigDict, Field

from services.common.domain.provenance import MAX_COLLECTION_LENGTH
from services.common.download.urls import MAX_URL_LENGTH

PREDICTION_EXAMPLE: dict[str, str | float] = {
    "text": "Wikipedia",
    "score": 0.9587,
    "expected_cer": 0.0003,
    "engine": "rapidocr",
    "model_version": "ppocrv6-small-latin@rapidocr-3.10.0+onnxruntime-f32+cal-54e40185",
    "width": 256,
    "height": 92,
    "duration_ms": 31.4,
}


class UrlRequest(BaseModel):
    """An image to download and read."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"example": {"url": "https://example.org/line.png"}},
    )

    url: str = Field(
        min_length=1,
        max_length=MAX_URL_LENGTH,
        description="http or https; downloaded under the rules of the fetcher.",
    )
    annotation: str | None = Field(
        None, description="Reference text; stored if the image is collected."
    )
    collection: str | None = Field(
        None,
        max_length=MAX_COLLECTION_LENGTH,
        description="Collection of the image, if it is collected.",
    )

    @property
    def known(self) -> dict[str, str]:
        """Annotation and collection, or empty."""
        return {"annotation": self.annotation or "", "collection": self.collection or ""}


class Prediction(BaseModel):
    """The text of one image and its confidence."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"example": {**PREDICTION_EXAMPLE}})

    text: str = Field(description="Recognised text; empty if there is none.")
    score: float = Field(
        ge=0,
        le=1,
        description="Probability that the text is right; without a calibration the mean confidence "
        "of its characters.",
    )
    expected_cer: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Expected character error rate: the mean, over texts to which the model gives "
        "such a score, of edits to the right text over its length, at most 1. null if nothing was "
        "read, or if the model has no calibration that knows it.",
    )
    engine: str = Field(min_length=1, description="OCR engine.")
    model_version: str = Field(
        min_length=1,
        description="Weights, and all else that changes texts or scores: alphabet, runtime, "
        "precision, calibration.",
    )
    width: int = Field(ge=1, description="Pixels, after EXIF rotation.")
    height: int = Field(ge=1, description="Pixels, after EXIF rotation.")
    duration_ms: float = Field(
        ge=0,
        description="Time to decode and read, without waiting; a share of the batch's time.",
    )


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str = Field(description="Name of the HTTP status.")
    status: int = Field(description="The HTTP status.")
    code: str = Field(description="Stable, machine-readable error code.")
    detail: str = Field(description="Explanation for people.")


class Failure(BaseModel):
    """The error of one image of a batch."""

    error: Problem


class Predictions(BaseModel):
    """One prediction or error per image, in order."""

    items: list[Prediction | Failure]
