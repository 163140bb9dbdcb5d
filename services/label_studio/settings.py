"""Settings of Label Studio."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, HttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

DAY_SECONDS = 86_400


def _check_url(url: HttpUrl | None) -> HttpUrl | None:
    if url is not None and (url.username or url.password):
        raise ValueError("URL must not contain credentials: it is stored with every annotation")
    return url


class LabelStudioSettings(BaseSettings):
    """Label Studio (``LABEL_STUDIO_*``)."""

    model_config = SettingsConfigDict(
        env_prefix="LABEL_STUDIO_", frozen=True, hide_input_in_errors=True, env_ignore_empty=True
    )

    url: Annotated[HttpUrl | None, AfterValidator(_check_url)] = Field(
        None, description="URL of Label Studio; unset: not used."
    )
    token: SecretStr | None = Field(
        None, min_length=8, description="Access token of an account: personal or legacy."
    )
    project: str = Field(
        "DocReco",
        min_length=3,
        max_length=50,
        description="Title of the project; push creates it if needed.",
    )
    addresses: Literal["presigned", "s3"] = Field(
        "presigned",
        description="URLs of images in tasks: a presigned URL, or "
        "`s3://bucket/key` for a source storage of the project.",
    )
    address_seconds: int = Field(
        7 * DAY_SECONDS,
        ge=60,
        le=7 * DAY_SECONDS,
        description="Validity of presigned URLs; push renews them in the second half.",
    )
    s3_endpoint_url: HttpUrl | None = Field(
        None,
        description="URL of the S3 API for annotators' browsers, if different.",
    )
    timeout_seconds: float = Field(
        30.0,
        gt=0,
        le=600,
        description="Limit to connect, and between two reads of an answer; all of it may take ten "
        "times as long.",
    )
    webhook_secret: SecretStr | None = Field(
        None,
        min_length=16,
        description="Bearer token of webhooks; unset: webhooks are not accepted.",
    )
