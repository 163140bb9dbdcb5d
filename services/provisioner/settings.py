"""Settings of the provisioner."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.runtime.settings import LOCAL_PASSWORDS, DeploymentSettings, Password
from services.provisioner.notification_rules import MOST_TARGETS

URL_SAFE = re.compile(r"[A-Za-z0-9._~-]+")
LEAST_CHARACTERS = 8
"""Minimum length of a password or token, as required by MinIO."""


def _check_url_safe(password: SecretStr) -> SecretStr:
    if not URL_SAFE.fullmatch(password.get_secret_value()):
        raise ValueError("letters, digits, - . _ and ~ only: the password is part of a URL")
    return password


ServicePassword = (
    Annotated[Password, Field(min_length=LEAST_CHARACTERS), AfterValidator(_check_url_safe)] | None
)


class UsersSettings(BaseSettings):
    """Users of the services in RabbitMQ and MinIO (``USERS_*``), created if a password is set."""

    model_config = SettingsConfigDict(env_prefix="USERS_", frozen=True, hide_input_in_errors=True)

    ocr_api_password: ServicePassword = Field(
        None, description="Of ``ocr-api`` in MinIO, which writes the images of requests."
    )
    fetcher_password: ServicePassword = Field(
        None, description="Of ``fetcher``, which writes images and publishes work."
    )
    consumer_password: ServicePassword = Field(
        None, description="Of ``consumer``, which reads images and consumes their events."
    )
    reconciler_password: ServicePassword = Field(
        None, description="Of ``reconciler``, which lists images and queues missing events."
    )
    segmenter_password: ServicePassword = Field(
        None, description="Of ``segmenter``, which cuts pages into lines."
    )
    review_password: ServicePassword = Field(
        None,
        description="Of ``review``, which shows images, stores uploads and deletes on request.",
    )
    minio_password: ServicePassword = Field(
        None, description="Of ``minio`` in RabbitMQ, which publishes events."
    )
    monitoring_password: ServicePassword = Field(
        None, description="Of ``monitoring`` in RabbitMQ, which reads its queues."
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
    notification_targets: int = Field(
        1,
        ge=1,
        le=MOST_TARGETS,
        description="AMQP targets that share the events of fetched images, `RAW`, `RAW1`, …; MinIO "
        "must be restarted to have more.",
    )
    pages_notification_arn: str = Field(
        "arn:minio:sqs::PAGES:amqp", description="Its name of that of the pages' events."
    )
    submitted_kept_days: int = Field(
        14, ge=1, le=3650, description="Retention of files submitted to the fetcher."
    )
    mongo_users: bool = Field(
        False, description="Whether users of the services are created in MongoDB, too."
    )
    wait_seconds: float = Field(
        120.0, ge=0, le=3600, description="Timeout to wait for each server."
    )


class PreflightSettings(BaseSettings):
    """Check before the servers start (``PREFLIGHT_*``)."""

    model_config = SettingsConfigDict(
        env_prefix="PREFLIGHT_", frozen=True, hide_input_in_errors=True, env_ignore_empty=True
    )

    kms_key_file: Path = Field(
        Path("minio-kms-key"), description="File of the key that encrypts all objects."
    )
    kms_key: SecretStr | None = Field(
        None,
        description="The key, ``name:base64 of 32 bytes``; unset: generated at the first start.",
    )
    configuration: Path | None = Field(
        None, description="Folder of the servers' configuration, which must be world-readable."
    )


class ServerPasswords(BaseSettings):
    """Passwords of the servers' administrators, named as by the servers."""

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
    mongo_root_password: Password = Field(
        SecretStr(""), description="MongoDB; unset: no authentication.", validate_default=True
    )


class AccessSettings(BaseSettings):
    """Authentication of published ports, and collection of requests."""

    model_config = SettingsConfigDict(
        frozen=True, hide_input_in_errors=True, env_ignore_empty=True, validate_default=True
    )

    fetcher_api_token: SecretStr | None = Field(None, description="port 8081 (fetcher)")
    ocr_api_token: SecretStr | None = Field(None, description="port 8080 (OCR API)")
    review_login_password: SecretStr | None = Field(None, description="port 8082 (review page)")
    ocr_collect: bool | None = Field(
        None, description="Whether images sent to the OCR API are collected."
    )

    @field_validator("fetcher_api_token", "ocr_api_token", "review_login_password")
    @classmethod
    def _protects_its_port(cls, secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        value = secret.get_secret_value() if secret is not None else ""
        is_weak = len(value) < LEAST_CHARACTERS or value in LOCAL_PASSWORDS
        if is_weak and DeploymentSettings().env == "production":
            port = cls.model_fields[info.field_name or ""].description
            raise ValueError(
                f"DOCRECO_ENV is production and {port} is published: set a secret of its own, of "
                f"{LEAST_CHARACTERS} characters or more"
            )
        return secret

    @field_validator("ocr_collect")
    @classmethod
    def _is_decided(cls, value: bool | None) -> bool | None:  # noqa: FBT001  pydantic's way
        if value is None and DeploymentSettings().env == "production":
            raise ValueError(
                "DOCRECO_ENV is production: say whether the images that clients send to the OCR "
                "API are kept (1), or only read (0)"
            )
        return value
