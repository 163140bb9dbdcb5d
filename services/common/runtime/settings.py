"""Shared settings, one class per server; docs/configuration.md is generated from them."""

from importlib.metadata import version
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AmqpDsn,
    Field,
    HttpUrl,
    MongoDsn,
    SecretStr,
    UrlConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

VERSION = version("docreco-pipeline")
"""Version of this project, from pyproject.toml."""

Port = Annotated[int, Field(ge=0, le=65535)]

LOCAL_PASSWORDS = frozenset(
    {
        *("admin", "minioadmin", "guest", "password"),
        *("consumer-local", "fetcher-local", "ocr-api-local", "reconciler-local"),
        *("minio-local", "monitoring-local", "review-local", "segmenter-local"),
    }
)
"""Public default passwords of local installations."""


class DeploymentSettings(BaseSettings):
    """Deployment environment (``DOCRECO_*``)."""

    model_config = SettingsConfigDict(env_prefix="DOCRECO_", frozen=True)

    env: Literal["local", "production"] = Field(
        "local", description="In production no service starts with a default password."
    )


def _refuse_local(password: str | None) -> None:
    if DeploymentSettings().env == "production" and (password or "") in LOCAL_PASSWORDS | {""}:
        raise ValueError("DOCRECO_ENV is production: replace the default password")


def _check_password(password: SecretStr) -> SecretStr:
    _refuse_local(password.get_secret_value())
    return password


def _check_amqp_url(url: AmqpDsn) -> AmqpDsn:
    _refuse_local(url.password)
    return url


Password = Annotated[SecretStr, AfterValidator(_check_password)]
"""Refuse default passwords in production; defaults are checked where ``validate_default``."""


class S3Settings(BaseSettings):
    """MinIO, or any S3 server (``S3_*``)."""

    model_config = SettingsConfigDict(env_prefix="S3_", frozen=True, hide_input_in_errors=True)

    endpoint_url: HttpUrl = Field(
        HttpUrl("http://127.0.0.1:9002"), description="Address of the S3 API."
    )
    access_key_id: str = Field("minioadmin", min_length=3, description="User.")
    secret_access_key: Password = Field(
        SecretStr("minioadmin"),
        min_length=8,
        description="Its password.",
        validate_default=True,
    )
    bucket: str = Field("raw", min_length=3, max_length=63, description="Bucket of images.")
    pages_bucket: str = Field("pages", min_length=3, max_length=63, description="Bucket of pages.")
    submitted_bucket: str = Field(
        "submitted",
        min_length=3,
        max_length=63,
        description="Bucket of files submitted to the fetcher.",
    )
    region: str = Field("us-east-1", description="Region for request signatures.")
    connect_timeout_seconds: float = Field(5.0, gt=0, le=60, description="Connect timeout.")
    read_timeout_seconds: float = Field(30.0, gt=0, le=600, description="Read timeout.")


class AmqpSettings(BaseSettings):
    """RabbitMQ (``AMQP_*``)."""

    model_config = SettingsConfigDict(env_prefix="AMQP_", frozen=True, hide_input_in_errors=True)

    url: Annotated[AmqpDsn, UrlConstraints(default_path="/"), AfterValidator(_check_amqp_url)] = (
        Field(
            AmqpDsn("amqp://admin:admin@127.0.0.1:5672/"),
            description="URL with user and password.",
            repr=False,
            validate_default=True,
        )
    )


class RabbitmqManagementSettings(BaseSettings):
    """RabbitMQ's management API (``RABBITMQ_MANAGEMENT_*``)."""

    model_config = SettingsConfigDict(env_prefix="RABBITMQ_MANAGEMENT_", frozen=True)

    url: HttpUrl = Field(HttpUrl("http://127.0.0.1:15672"), description="Its address.")
    user: str = Field("admin", description="Administrator's name.")
    password: Password = Field(
        SecretStr("admin"), description="Its password.", validate_default=True
    )


class MongoSettings(BaseSettings):
    """MongoDB (``MONGO_*``)."""

    model_config = SettingsConfigDict(
        env_prefix="MONGO_", frozen=True, hide_input_in_errors=True, env_ignore_empty=True
    )

    url: MongoDsn = Field(
        MongoDsn("mongodb://127.0.0.1:27017"),
        description="URL; user and password may be set separately.",
        repr=False,
    )
    user: str | None = Field(None, description="User, in the database ``admin``.")
    password: Password | None = Field(None, description="Its password.", validate_default=True)
    database: str = Field("docreco", min_length=1, max_length=63, description="Database.")
    timeout_seconds: float = Field(5.0, gt=0, le=60, description="Server selection timeout.")

    @field_validator("password")
    @classmethod
    def _check_login(cls, password: SecretStr | None, others: ValidationInfo) -> SecretStr | None:
        if "user" in others.data and (others.data["user"] is None) != (password is None):
            raise ValueError("set both user and password, or neither")
        if password is None and "url" in others.data:
            _refuse_local(others.data["url"].hosts()[0]["password"])
        return password


class LogSettings(BaseSettings):
    """Logs (``LOG_*``)."""

    model_config = SettingsConfigDict(env_prefix="LOG_", frozen=True)

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Minimum level."
    )
    format: Literal["json", "console"] = Field("json", description="For machines or for people.")
