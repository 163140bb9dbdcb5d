"""Settings of the review page."""

from pathlib import Path
from typing import Self

from pydantic import AliasChoices, Field, HttpUrl, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.domain.annotations import collapse
from services.common.domain.sizes import MAX_IMAGE_BYTES, MEBIBYTE
from services.common.runtime.access import to_names
from services.common.runtime.settings import DeploymentSettings, Port


class ReviewSettings(BaseSettings):
    """Review (``REVIEW_*``)."""

    model_config = SettingsConfigDict(
        env_prefix="REVIEW_",
        frozen=True,
        hide_input_in_errors=True,
        env_ignore_empty=True,
        populate_by_name=True,
    )

    host: str = Field("127.0.0.1", description="Listen address.")
    port: Port = Field(8082, description="Listen port.")
    hosts: str = Field(
        "127.0.0.1,localhost",
        description="Allowed ``Host`` headers (DNS-rebinding protection), comma-separated; an IP "
        "address always passes.",
    )
    login_password: SecretStr | None = Field(
        None, min_length=8, description="Login password; unset: only a name is asked for."
    )
    session_hours: float = Field(12.0, gt=0, le=720, description="Validity of a login.")
    lease_seconds: float = Field(
        120.0, ge=1, le=3600, description="Duration of the lease of an image."
    )
    fetcher_url: HttpUrl = Field(
        HttpUrl("http://127.0.0.1:8081"), description="URL of the fetcher."
    )
    fetcher_token: SecretStr | None = Field(None, description="Token of the fetcher.")
    fetcher_timeout_seconds: float = Field(
        30.0, gt=0, le=600, description="Timeout of the fetcher's responses."
    )
    max_upload_bytes: int = Field(64 * MEBIBYTE, ge=1024, description="Largest upload, in bytes.")
    max_object_bytes: int = Field(MAX_IMAGE_BYTES, ge=1024, description="Largest image, in bytes.")
    quality_refresh_seconds: float = Field(
        300.0,
        gt=0,
        le=86_400,
        description="Longest pause between two counts of the quality figures, of which fewer "
        "images are counted more often, and pause between two searches for suspect labels.",
    )
    second_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of images that two people read, each without the text of the other.",
    )
    reviewers: str = Field(
        "",
        max_length=10_000,
        description="Names of the people who decide where two have read an image differently, "
        "comma-separated; empty: everybody.",
    )
    characters: str = Field(
        "\u00e9 \u00e8 \u00e0 \u00e7 \u0153 \u00ab \u00bb \u2019 \u2014",
        max_length=200,
        description="What the buttons of the queue write, separated by spaces; the first nine have "
        "the keys Alt+1 to Alt+9.",
    )
    models: Path = Field(
        Path(".models"),
        validation_alias=AliasChoices("REVIEW_MODELS", "OCR_MODELS"),
        description="Folder of models, which the page of models shows; by default `OCR_MODELS`.",
    )
    prometheus_url: HttpUrl | None = Field(
        None,
        description="URL of Prometheus, which knows waiting messages, services and alerts; unset: "
        "the overview shows them as unknown.",
    )

    @property
    def host_names(self) -> frozenset[str]:
        """``hosts``, in lower case."""
        return to_names(self.hosts)

    @property
    def reviewer_names(self) -> frozenset[str]:
        """``reviewers``, as logins write them."""
        return frozenset(filter(None, map(collapse, self.reviewers.split(","))))

    @model_validator(mode="after")
    def _check_password(self) -> Self:
        if DeploymentSettings().env == "production" and self.login_password is None:
            raise ValueError("DOCRECO_ENV is production: set REVIEW_LOGIN_PASSWORD")
        return self
