"""What the OCR API answers."""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from services.common.problems import MEDIA_TYPE


class Prediction(BaseModel):
    """The text of one image, and how sure the model is of it."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "example": {
                "text": "Wikipedia",
                "score": 0.9999,
                "engine": "rapidocr",
                "model_version": "ppocrv6-small@rapidocr-3.10.0",
                "width": 208,
                "height": 80,
                "duration_ms": 31.4,
            }
        },
    )

    text: str = Field(description="What the model reads; empty where it sees no text.")
    score: float = Field(ge=0, le=1, description="Mean confidence of the characters.")
    engine: str = Field(min_length=1, description="What read the text.")
    model_version: str = Field(min_length=1, description="Its weights and their version.")
    width: int = Field(ge=1, description="Pixels, after the rotation that EXIF asks for.")
    height: int = Field(ge=1, description="Pixels, after the rotation that EXIF asks for.")
    duration_ms: float = Field(ge=0, description="Time to decode and read, without waiting.")


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str = Field(description="Name of the HTTP status.")
    status: int = Field(description="The HTTP status.")
    code: str = Field(description="Stable name of the error, for machines.")
    detail: str = Field(description="What is wrong with this request, for people.")


def problem_responses(descriptions: dict[HTTPStatus, str]) -> dict[int | str, dict[str, Any]]:
    """Describe problem answers to OpenAPI, by status."""
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {
        int(status): {"description": description, "content": content}
        for status, description in descriptions.items()
    }
