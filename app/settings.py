"""Settings of the OCR API."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.domain.sizes import MAX_IMAGE_BYTES, MEBIBYTE
from services.common.runtime.settings import Port

EngineName = Literal["rapidocr", "trocr"]


class OcrSettings(BaseSettings):
    """OCR API (``OCR_*``)."""

    model_config = SettingsConfigDict(env_prefix="OCR_", frozen=True, hide_input_in_errors=True)

    host: str = Field("127.0.0.1", description="Listen address.")
    port: Port = Field(8080, description="Listen port.")
    api_token: SecretStr | None = Field(
        None,
        min_length=8,
        description="Bearer token required by the API; unset: no authentication.",
    )
    hosts: str = Field(
        "localhost,ocr-api,ocr-api-trocr,ocr-api-shadow,gateway",
        description="Allowed ``Host`` headers (DNS-rebinding protection), comma-separated; an IP "
        "address always passes, and with a token every name does.",
    )
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Worker processes on the port, each with its own model and threads.",
    )
    engine: EngineName = Field("rapidocr", description="OCR engine.")
    threads: int = Field(
        2, ge=1, le=64, description="Images read concurrently; more than cores slows all of them."
    )
    max_waiting: int = Field(
        32, ge=0, le=10_000, description="Queue length; further images get a 503."
    )
    max_wait_seconds: float = Field(
        1.0,
        gt=0,
        le=600,
        description="Longest predicted wait; beyond it an image gets a 503 at once.",
    )
    max_image_bytes: int = Field(MAX_IMAGE_BYTES, ge=1024, description="Largest image file.")
    max_batch_bytes: int = Field(64 * MEBIBYTE, ge=1024, description="Largest batch.")
    max_held_bytes: int = Field(
        128 * MEBIBYTE,
        ge=1024,
        description="Memory for the bodies of all current requests; further ones get a 503.",
    )
    max_image_pixels: int = Field(
        25_000_000, ge=1, le=80_000_000, description="Largest image, checked before decoding."
    )
    upload_timeout_seconds: float = Field(30.0, gt=0, le=600, description="Upload timeout.")
    low_score_threshold: float = Field(
        0.5, ge=0, le=1, description="Predictions with a lower score count as low."
    )
    collect: bool = Field(
        False,
        description="Whether images of requests are written to the bucket (`S3_*`), "
        "as `api/<sha256>.<ext>`.",
    )
    collect_rate: float = Field(1.0, ge=0, le=1, description="Share of the images collected.")
    collect_buffer_bytes: int = Field(
        64 * MEBIBYTE,
        ge=1024,
        description="Bytes of images that wait for the bucket, in each process; while they have no "
        "room, further images are dropped.",
    )
    collect_buffer_images: int = Field(
        1000,
        ge=1,
        description="Images that wait for the bucket, in each process; while they have no room, "
        "further images are dropped.",
    )
    drain_seconds: float = Field(20.0, ge=0, le=600, description="Graceful-shutdown timeout.")


def share_metrics(folder: Path) -> None:
    """Make processes started from here on keep their metrics in a folder.

    prometheus_client reads this variable when it is imported.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
