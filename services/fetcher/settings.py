"""Settings of the fetcher."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.download.settings import MEBIBYTE
from services.common.settings import Port


class FetcherSettings(BaseSettings):
    """Fetcher (``FETCHER_*``)."""

    model_config = SettingsConfigDict(env_prefix="FETCHER_", frozen=True)

    host: str = Field("127.0.0.1", description="Address of the API.")
    port: Port = Field(8081, description="Port of the API.")
    api_token: SecretStr | None = Field(
        None, min_length=1, description="Bearer token that the API wants; none: open to all."
    )
    concurrency: int = Field(32, ge=1, le=1000, description="Downloads at once.")
    max_attempts: int = Field(
        3,
        ge=1,
        le=4,
        description="Attempts for an item whose failure may pass (the next after 5 s, 1 min, "
        "10 min); a host that does not answer gets 2 at most.",
    )
    max_list_bytes: int = Field(256 * MEBIBYTE, ge=1, description="Largest list, in bytes.")
    max_json_bytes: int = Field(
        16 * MEBIBYTE, ge=1, description="Largest list as JSON, which is read into memory."
    )
    drain_seconds: float = Field(
        20.0, ge=0, le=600, description="Limit to finish what is in work when stopping."
    )
