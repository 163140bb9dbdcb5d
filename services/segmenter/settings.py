"""Settings of the segmenter."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.runtime.settings import Port
from services.segmenter.decoding import DecodingLimits
from services.segmenter.rendering import RenderingLimits

TextLayerUse = Literal["propose", "accept", "ignore"]
DOCUMENT_SECONDS = 1200
"""CPU time limit of all of a PDF or TIFF; RabbitMQ takes a delivery back after half an hour."""


class SegmenterSettings(BaseSettings):
    """Segmenter (``SEGMENTER_*``)."""

    model_config = SettingsConfigDict(env_prefix="SEGMENTER_", frozen=True, env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="Listen address of health and metrics.")
    port: Port = Field(8085, description="Listen port of health and metrics.")
    prefetch: int = Field(1, ge=1, le=64, description="Pages processed concurrently.")
    longest_side: int = Field(
        1280, ge=320, le=4096, description="Longest side of a page for line detection, in pixels."
    )
    max_object_bytes: int = Field(
        200 * 1024 * 1024,
        ge=1024,
        description="Largest page or document; larger ones are rejected unread.",
    )
    max_pixels: int = Field(50_000_000, ge=10_000, le=80_000_000, description="Largest page.")
    max_lines: int = Field(1000, ge=1, le=2000, description="Limit of lines on a page.")
    max_pages: int = Field(500, ge=1, le=10_000, description="Limit of pages of a PDF or TIFF.")
    dots_per_inch: int = Field(200, ge=50, le=600, description="Resolution of rendered PDFs.")
    text_layer: TextLayerUse = Field(
        "propose",
        description="What becomes of the text of a PDF: shown to people as a proposal (propose), "
        "an annotation (accept; not each way to blacken text is told), or nothing (ignore).",
    )
    page_seconds: int = Field(
        20, ge=1, le=600, description="CPU time limit to decode or render a page."
    )
    page_memory_bytes: int = Field(
        1536 * 1024 * 1024, ge=64 * 1024 * 1024, description="Memory limit of a page."
    )
    max_waiting: int = Field(
        1000, ge=1, description="Queue length of the OCR API above which no page is segmented."
    )
    drain_seconds: float = Field(20.0, ge=0, le=600, description="Graceful-shutdown timeout.")

    @property
    def decoding(self) -> DecodingLimits:
        """Limits of the image of a page."""
        return DecodingLimits(self.max_pixels, self.page_seconds, self.page_memory_bytes)

    @property
    def rendering(self) -> RenderingLimits:
        """Limits of a document of several pages."""
        return RenderingLimits(
            pages=self.max_pages,
            pixels=min(self.max_pixels, 25_000_000),
            dots_per_inch=self.dots_per_inch,
            seconds=self.page_seconds,
            document_seconds=min(self.page_seconds * (self.max_pages + 1), DOCUMENT_SECONDS),
            memory_bytes=self.page_memory_bytes,
            text=self.text_layer != "ignore",
        )
