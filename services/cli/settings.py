"""Settings of the command line."""

from pydantic import Field, HttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class CliSettings(BaseSettings):
    """Command line (``DOCRECO_*``)."""

    model_config = SettingsConfigDict(env_prefix="DOCRECO_", frozen=True)

    fetcher_url: HttpUrl = Field(HttpUrl("http://127.0.0.1:8081"), description="The fetcher.")
    fetcher_token: SecretStr | None = Field(None, description="Its token, where it wants one.")
    ocr_url: HttpUrl = Field(HttpUrl("http://127.0.0.1:8080"), description="The OCR API.")
    consumer_url: HttpUrl = Field(
        HttpUrl("http://127.0.0.1:8083"), description="Health and metrics of the consumer."
    )
    reconciler_url: HttpUrl = Field(
        HttpUrl("http://127.0.0.1:8084"), description="Health and metrics of the reconciler."
    )
    review_url: HttpUrl = Field(HttpUrl("http://127.0.0.1:8082"), description="The review page.")
    prometheus_url: HttpUrl = Field(HttpUrl("http://127.0.0.1:9000"), description="Prometheus.")
    timeout_seconds: float = Field(
        30.0, gt=0, le=3600, description="Limit to connect, and between two reads of an answer."
    )
    poll_seconds: float = Field(
        0.5, gt=0, le=60, description="Pause between two questions of how far a batch is."
    )
