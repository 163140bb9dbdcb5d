"""Settings of the OCR API."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.settings import Port

EngineName = Literal["rapidocr"]


class OcrSettings(BaseSettings):
    """OCR API (``OCR_*``)."""

    model_config = SettingsConfigDict(env_prefix="OCR_", frozen=True)

    host: str = Field("127.0.0.1", description="Address it listens on.")
    port: Port = Field(8080, description="Port it listens on.")
    engine: EngineName = Field("rapidocr", description="What reads the text.")
    threads: int = Field(
        2, ge=1, le=64, description="Images read at once; more than cores slows all of them."
    )
    max_waiting: int = Field(
        32, ge=0, le=10_000, description="Requests that may wait for a thread; others get a 503."
    )
    max_image_bytes: int = Field(
        20 * 1024 * 1024, ge=1024, description="A larger file is refused while it is being read."
    )
    max_image_pixels: int = Field(
        25_000_000, ge=1, le=80_000_000, description="A larger image is refused before decoding."
    )
    upload_timeout_seconds: float = Field(
        30.0, gt=0, le=600, description="Limit to send the image."
    )
    low_score_threshold: float = Field(
        0.5, ge=0, le=1, description="A prediction with a lower score counts as low."
    )
    drain_seconds: float = Field(
        20.0, ge=0, le=600, description="Limit to answer what is in work when stopping."
    )
