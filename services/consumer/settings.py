"""Settings of the consumer."""

from pydantic import AliasChoices, Field, HttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.domain.sizes import MAX_IMAGE_BYTES
from services.common.runtime.settings import Port


class ConsumerSettings(BaseSettings):
    """Consumer (``CONSUMER_*``)."""

    model_config = SettingsConfigDict(
        env_prefix="CONSUMER_",
        frozen=True,
        env_ignore_empty=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    host: str = Field("127.0.0.1", description="Listen address of health and metrics.")
    port: Port = Field(8083, description="Listen port of health and metrics.")
    ocr_url: HttpUrl = Field(HttpUrl("http://127.0.0.1:8080"), description="URL of the OCR API.")
    ocr_api_token: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("CONSUMER_OCR_API_TOKEN", "OCR_API_TOKEN"),
        description="Token of the OCR API; by default `OCR_API_TOKEN`.",
    )
    ocr_timeout_seconds: float = Field(30.0, gt=0, le=600, description="Timeout of one prediction.")
    shadow_rate: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of new images that the OCR API at `CONSUMER_SHADOW_URL` reads, too: "
        "a candidate model whose readings are kept beside the predictions.",
    )
    shadow_url: HttpUrl = Field(
        HttpUrl("http://127.0.0.1:8086"), description="URL of the candidate's OCR API."
    )
    prefetch: int = Field(8, ge=1, le=1000, description="Images processed concurrently.")
    repredict_prefetch: int = Field(
        4, ge=1, le=1000, description="Images read again concurrently, while no new one waits."
    )
    max_object_bytes: int = Field(
        MAX_IMAGE_BYTES, ge=1024, description="Largest object; larger ones are rejected unread."
    )
    page_height: int = Field(
        800,
        ge=0,
        le=65_535,
        description="Height in pixels from which on an image that is less than twice as wide, and "
        "has no text, is rejected as a page; 0: none is.",
    )
    annotations_kept_days: float = Field(
        30.0,
        ge=0,
        le=3650,
        description="Retention of the annotation of a deleted image, restored with it.",
    )
    drain_seconds: float = Field(20.0, ge=0, le=600, description="Graceful-shutdown timeout.")
