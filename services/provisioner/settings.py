"""Settings of the provisioner."""

from pathlib import Path

from pydantic import Field, HttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class RabbitmqManagementSettings(BaseSettings):
    """RabbitMQ's management API (``RABBITMQ_MANAGEMENT_*``)."""

    model_config = SettingsConfigDict(env_prefix="RABBITMQ_MANAGEMENT_", frozen=True)

    url: HttpUrl = Field(HttpUrl("http://127.0.0.1:15672"), description="Its address.")
    user: str = Field("admin", description="A user who may change everything.")
    password: SecretStr = Field(SecretStr("admin"), description="Its password.")


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
