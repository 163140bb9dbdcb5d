"""Settings of the OCR API."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.runtime.settings import Port

EngineName = Literal["rapidocr", "trocr"]

MEBIBYTE = 1024 * 1024


class OcrSettings(BaseSettings):
    """OCR API (``OCR_*``)."""

    model_config = SettingsConfigDict(env_prefix="OCR_", frozen=True, hide_input_in_errors=True)

    host: str = Field("127.0.0.1", description="Address it listens on.")
    port: Port = Field(8080, description="Port it listens on.")
    api_token: SecretStr | None = Field(
        None, min_length=8, description="Bearer token that the API wants; none: open to all."
    )
    hosts: str = Field(
        "localhost,ocr-api,ocr-api-trocr,gateway",
        description="Host names by which clients may ask for it, comma-separated; an IP address "
        "always passes, and with a token every name does.",
    )
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes on the port, each with a model and threads of its own.",
    )
    engine: EngineName = Field("rapidocr", description="What reads the text.")
    threads: int = Field(
        2, ge=1, le=64, description="Images read at once; more than cores slows all of them."
    )
    max_waiting: int = Field(
        32, ge=0, le=10_000, description="Images that may wait for a thread; others get a 503."
    )
    max_wait_seconds: float = Field(
        1.0,
        gt=0,
        le=600,
        description="An image that would have to wait longer, as measured, gets a 503 at once.",
    )
    max_image_bytes: int = Field(
        20 * MEBIBYTE, ge=1024, description="A larger file is refused while it is being read."
    )
    max_batch_bytes: int = Field(
        64 * MEBIBYTE, ge=1024, description="A larger batch is refused while it is being read."
    )
    max_held_bytes: int = Field(
        128 * MEBIBYTE, ge=1024, description="Bytes of all requests in work; others get a 503."
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
    drain_seconds: float = Field(
        20.0, ge=0, le=600, description="Limit to answer what is in work when stopping."
    )


def share_metrics(folder: Path) -> None:
    """Let every process started from here on keep its metrics in a folder.

    prometheus_client decides by this variable, when it is imported.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
