"""Settings of the reconciler."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.runtime.settings import Port
from services.reconciler.compare import MOST_PARTS


class ReconcilerSettings(BaseSettings):
    """Reconciler (``RECONCILER_*``)."""

    model_config = SettingsConfigDict(env_prefix="RECONCILER_", frozen=True)

    host: str = Field("127.0.0.1", description="Listen address of health and metrics.")
    port: Port = Field(8084, description="Listen port of health and metrics.")
    interval_seconds: float = Field(
        3600.0, ge=1, le=7 * 86_400, description="Pause between two passes."
    )
    parts: int = Field(
        1,
        ge=1,
        le=MOST_PARTS,
        description="Parts of the buckets, of which a pass compares one, and the next pass the "
        "next one: more where one pass over all objects takes too long.",
    )
    annotated_interval_seconds: float = Field(
        300.0,
        ge=1,
        le=7 * 86_400,
        description="Pause between two counts of all annotated images' errors.",
    )
    min_age_seconds: float = Field(
        1800.0,
        ge=0,
        le=86_400,
        description="Younger changes are in flight and ignored; the longest retry takes 11 min.",
    )
    max_waiting: int = Field(
        1000, ge=1, le=1_000_000, description="Queue length above which it pauses."
    )
    parallel: int = Field(16, ge=1, le=64, description="Objects verified concurrently.")
