"""What the OCR API is asked and answers."""

from pydantic import BaseModel, ConfigDict, Field

from services.common.download.urls import MAX_URL_LENGTH

PREDICTION_EXAMPLE: dict[str, str | float] = {
    "text": "Wikipedia",
    "score": 0.9999,
    "engine": "rapidocr",
    "model_version": "ppocrv6-small-latin@rapidocr-3.10.0+onnxruntime-f32",
    "width": 256,
    "height": 92,
    "duration_ms": 31.4,
}


class UrlRequest(BaseModel):
    """An image to be fetched and read."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"example": {"url": "https://example.org/line.png"}},
    )

    url: str = Field(
        min_length=1,
        max_length=MAX_URL_LENGTH,
        description="http or https; fetched under the rules of the fetcher.",
    )
    annotation: str | None = Field(
        None, description="The true text, where it is known; kept where images are collected."
    )


class Prediction(BaseModel):
    """The text of one image, and how sure the model is of it."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"example": {**PREDICTION_EXAMPLE}})

    text: str = Field(description="What the model reads; empty where it sees no text.")
    score: float = Field(ge=0, le=1, description="Mean confidence of the characters.")
    engine: str = Field(min_length=1, description="What read the text.")
    model_version: str = Field(
        min_length=1,
        description="Its weights, and all else that changes texts or scores: alphabet, runtime, "
        "precision, calibration.",
    )
    width: int = Field(ge=1, description="Pixels, after the rotation that EXIF asks for.")
    height: int = Field(ge=1, description="Pixels, after the rotation that EXIF asks for.")
    duration_ms: float = Field(
        ge=0,
        description="Time to decode and read, without waiting; of images read together, a share.",
    )


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str = Field(description="Name of the HTTP status.")
    status: int = Field(description="The HTTP status.")
    code: str = Field(description="Stable name of the error, for machines.")
    detail: str = Field(description="What is wrong with this request, for people.")


class Failure(BaseModel):
    """Why one image of a batch was not read."""

    error: Problem


class Predictions(BaseModel):
    """One prediction or error for each image, in their order."""

    items: list[Prediction | Failure]
