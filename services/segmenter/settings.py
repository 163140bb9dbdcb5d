"""Settings of the segmenter."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.runtime.settings import Port
from services.segmenter.rendering import RenderingLimits


class SegmenterSettings(BaseSettings):
    """Segmenter (``SEGMENTER_*``)."""

    model_config = SettingsConfigDict(env_prefix="SEGMENTER_", frozen=True, env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="Address of health and metrics.")
    port: Port = Field(8085, description="Port of health and metrics.")
    prefetch: int = Field(1, ge=1, le=64, description="Pages in work at once.")
    longest_side: int = Field(
        1280, ge=320, le=4096, description="Pixels to which a page is reduced to find its lines."
    )
    max_object_bytes: int = Field(
        200 * 1024 * 1024, ge=1024, description="A larger page or document is rejected unread."
    )
    max_pixels: int = Field(
        50_000_000, ge=10_000, le=80_000_000, description="A larger page is rejected."
    )
    max_lines: int = Field(
        1000, ge=1, le=2000, description="A page on which more lines are found is rejected."
    )
    max_pages: int = Field(
        500, ge=1, le=10_000, description="A PDF or TIFF of more pages is rejected."
    )
    dots_per_inch: int = Field(
        200, ge=50, le=600, description="Resolution at which a PDF is rendered."
    )
    page_seconds: int = Field(
        20, ge=1, le=600, description="Processor time that a page of a PDF or TIFF may take."
    )
    page_memory_bytes: int = Field(
        1536 * 1024 * 1024, ge=64 * 1024 * 1024, description="Memory that it may take."
    )
    max_waiting: int = Field(
        1000, ge=1, description="No page is segmented while so many images wait for the OCR API."
    )
    drain_seconds: float = Field(
        20.0, ge=0, le=600, description="Limit to finish what is in work when stopping."
    )

    @property
    def rendering(self) -> RenderingLimits:
        """Limits of a document of several pages."""
        return RenderingLimits(
            pages=self.max_pages,
            pixels=min(self.max_pixels, 25_000_000),
            dots_per_inch=self.dots_per_inch,
            seconds=self.page_seconds,
            memory_bytes=self.page_memory_bytes,
        )
