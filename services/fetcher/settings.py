"""Settings of the fetcher."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.domain.sizes import MEBIBYTE
from services.common.runtime.settings import Port


class FetcherSettings(BaseSettings):
    """Fetcher (``FETCHER_*``)."""

    model_config = SettingsConfigDict(env_prefix="FETCHER_", frozen=True)

    host: str = Field("127.0.0.1", description="Listen address of the API.")
    port: Port = Field(8081, description="Listen port of the API.")
    api_token: SecretStr | None = Field(
        None,
        min_length=1,
        description="Bearer token required by the API; unset: no authentication.",
    )
    hosts: str = Field(
        "localhost,fetcher,gateway",
        description="Allowed ``Host`` headers (DNS-rebinding protection), comma-separated; an IP "
        "address always passes, and with a token every name does.",
    )
    concurrency: int = Field(
        64,
        ge=1,
        le=1000,
        description="Concurrent downloads; those longer than a second do not count, up to four "
        "times as many.",
    )
    host_concurrency: int = Field(
        8, ge=1, le=100, description="Downloads at once from one host, by all fetchers together."
    )
    host_rate: float = Field(
        50.0,
        ge=0,
        description="Downloads a second from one host, by all fetchers together; 0: no limit.",
    )
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
    max_list_rows: int = Field(
        10_000_000, ge=1, description="Limit of rows in a list, including rejected ones."
    )
    unfinished_kept_seconds: float = Field(
        86_400.0,
        ge=600,
        description="How long an incomplete upload can be resumed with its Idempotency-Key "
        "before it is deleted.",
    )
    list_timeout_seconds: float = Field(
        300.0, gt=0, le=3600, description="Timeout to download a list or an archive."
    )
    drain_seconds: float = Field(20.0, ge=0, le=600, description="Graceful-shutdown timeout.")
