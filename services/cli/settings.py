"""Settings of the command line."""

import os
from pathlib import Path

from pydantic import Field, HttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class CliSettings(BaseSettings):
    """Command line (``DOCRECO_*``)."""

    model_config = SettingsConfigDict(env_prefix="DOCRECO_", frozen=True)

    fetcher_url: HttpUrl = Field(
        HttpUrl("http://127.0.0.1:8081"), description="URL of the fetcher."
    )
    fetcher_token: SecretStr | None = Field(None, description="Token of the fetcher.")
    ocr_url: HttpUrl = Field(HttpUrl("http://127.0.0.1:8080"), description="URL of the OCR API.")
    consumer_url: HttpUrl = Field(
        HttpUrl("http://127.0.0.1:8083"), description="URL of the consumer's health and metrics."
    )
    reconciler_url: HttpUrl = Field(
        HttpUrl("http://127.0.0.1:8084"), description="URL of the reconciler's health and metrics."
    )
    review_url: HttpUrl = Field(
        HttpUrl("http://127.0.0.1:8082"), description="URL of the review page."
    )
    segmenter_url: HttpUrl = Field(
        HttpUrl("http://127.0.0.1:8085"), description="URL of the segmenter's health and metrics."
    )
    prometheus_url: HttpUrl = Field(HttpUrl("http://127.0.0.1:9000"), description="Prometheus.")
    timeout_seconds: float = Field(30.0, gt=0, le=3600, description="Connect and read timeout.")
    poll_seconds: float = Field(
        0.5, gt=0, le=60, description="Polling interval of a batch's progress."
    )


class ErrorSettings(BaseSettings):
    """Errors of the command line (``DOCRECO_*``)."""

    model_config = SettingsConfigDict(env_prefix="DOCRECO_", frozen=True)

    error_file: Path | None = Field(
        None, description="File that gets the message of an error, too: `docreco loop` reads it."
    )


def with_error_file(file: Path) -> dict[str, str]:
    """Return the environment of a command that writes its error to a file, too."""
    return {**os.environ, "DOCRECO_ERROR_FILE": str(file.absolute())}
