"""Settings of the provisioner."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, HttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.settings import Password

URL_SAFE = re.compile(r"[A-Za-z0-9._~-]+")


def _check_url_safe(password: SecretStr) -> SecretStr:
    if not URL_SAFE.fullmatch(password.get_secret_value()):
        raise ValueError("letters, digits, - . _ and ~ only: the password is part of a URL")
    return password


ServicePassword = Annotated[Password, Field(min_length=8), AfterValidator(_check_url_safe)] | None
"""At least 8 characters, which is what MinIO asks for."""


class RabbitmqManagementSettings(BaseSettings):
    """RabbitMQ's management API (``RABBITMQ_MANAGEMENT_*``)."""

    model_config = SettingsConfigDict(env_prefix="RABBITMQ_MANAGEMENT_", frozen=True)

    url: HttpUrl = Field(HttpUrl("http://127.0.0.1:15672"), description="Its address.")
    user: str = Field("admin", description="A user who may change everything.")
    password: Password = Field(
        SecretStr("admin"), description="Its password.", validate_default=True
    )


class UsersSettings(BaseSettings):
    """The services' own users in RabbitMQ and MinIO (``USERS_*``); without password: not made."""

    model_config = SettingsConfigDict(env_prefix="USERS_", frozen=True, hide_input_in_errors=True)

    fetcher_password: ServicePassword = Field(
        None, description="Of ``fetcher``, who writes images and publishes work."
    )
    consumer_password: ServicePassword = Field(
        None, description="Of ``consumer``, who reads images and takes their events."
    )
    reconciler_password: ServicePassword = Field(
        None, description="Of ``reconciler``, who looks at images and queues what has no event."
    )
    review_password: ServicePassword = Field(
        None, description="Of ``review``, who shows images, stores uploads and deletes on request."
    )
    minio_password: ServicePassword = Field(
        None, description="Of ``minio`` in RabbitMQ, who publishes events."
    )
    monitoring_password: ServicePassword = Field(
        None, description="Of ``monitoring`` in RabbitMQ, who sees its queues."
    )


class ProvisionerSettings(BaseSettings):
    """Provisioner (``PROVISIONER_*``)."""

    model_config = SettingsConfigDict(env_prefix="PROVISIONER_", frozen=True)

    definitions: Path = Field(
        Path("rabbitmq/definitions.json"), description="Exchanges, queues, bindings, policies."
    )
    notification_arn: str = Field(
        "arn:minio:sqs::RAW:amqp", description="MinIO's name of its AMQP target."
    )
    wait_seconds: float = Field(
        120.0, ge=0, le=3600, description="Limit to wait for each server to answer."
    )


class PreflightSettings(BaseSettings):
    """Check before the servers start (``PREFLIGHT_*``)."""

    model_config = SettingsConfigDict(
        env_prefix="PREFLIGHT_", frozen=True, hide_input_in_errors=True, env_ignore_empty=True
    )

    kms_key_file: Path = Field(
        Path("minio-kms-key"), description="Where the key is kept that encrypts all objects."
    )
    kms_key: SecretStr | None = Field(
        None, description="The key, ``name:base64 of 32 bytes``; none: made at the first start."
    )
    configuration: Path | None = Field(
        None, description="Folder of the servers' configuration that all must be able to read."
    )


class ServerPasswords(BaseSettings):
    """Passwords of the servers' administrators, under the names that the servers give them."""

    model_config = SettingsConfigDict(frozen=True, hide_input_in_errors=True)

    minio_root_password: Password = Field(
        SecretStr("minioadmin"), description="MinIO.", validate_default=True
    )
    rabbitmq_admin_password: Password = Field(
        SecretStr("admin"), description="RabbitMQ.", validate_default=True
    )
    grafana_admin_password: Password = Field(
        SecretStr("admin"), description="Grafana.", validate_default=True
    )
