"""Settings of the reconciler."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.runtime.settings import Port


class ReconcilerSettings(BaseSettings):
    """Reconciler (``RECONCILER_*``)."""

    model_config = SettingsConfigDict(env_prefix="RECONCILER_", frozen=True)

    host: str = Field("127.0.0.1", description="Address of health and metrics.")
    port: Port = Field(8084, description="Port of health and metrics.")
    interval_seconds: float = Field(
        3600.0, ge=1, le=7 * 86_400, description="From the end of a pass to the next."
    )
    annotated_interval_seconds: float = Field(
        300.0,
        ge=1,
        le=7 * 86_400,
        description="From a count of all annotated images' errors to the next.",
    )
    min_age_seconds: float = Field(
        1800.0,
        ge=0,
        le=86_400,
        description="What changed since is in flight and left alone; the longest retry is 11 min.",
    )
    max_waiting: int = Field(
        1000, ge=1, le=1_000_000, description="It queues no more while so many images wait."
    )
    parallel: int = Field(16, ge=1, le=64, description="Objects looked at once more at once.")
