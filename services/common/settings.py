"""Settings that services share, one group a server; the README's table is made from these."""

from typing import Annotated, Literal

from pydantic import AmqpDsn, Field, HttpUrl, MongoDsn, SecretStr, UrlConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=0, le=65535)]


class S3Settings(BaseSettings):
    """MinIO, or any S3 server (``S3_*``)."""

    model_config = SettingsConfigDict(env_prefix="S3_", frozen=True)

    endpoint_url: HttpUrl = Field(
        HttpUrl("http://127.0.0.1:9002"), description="Address of the S3 API."
    )
    access_key_id: str = Field("minioadmin", min_length=3, description="User.")
    secret_access_key: SecretStr = Field(
        SecretStr("minioadmin"), min_length=8, description="Its password."
    )
    bucket: str = Field("raw", min_length=3, max_length=63, description="Bucket that images enter.")
    region: str = Field("us-east-1", description="Region named in signatures.")
    connect_timeout_seconds: float = Field(5.0, gt=0, le=60, description="Limit to connect.")
    read_timeout_seconds: float = Field(30.0, gt=0, le=600, description="Limit between two reads.")


class AmqpSettings(BaseSettings):
    """RabbitMQ (``AMQP_*``)."""

    model_config = SettingsConfigDict(env_prefix="AMQP_", frozen=True)

    url: Annotated[AmqpDsn, UrlConstraints(default_path="/")] = Field(
        AmqpDsn("amqp://admin:admin@127.0.0.1:5672/"),
        description="Address with user and password.",
        repr=False,
    )


class MongoSettings(BaseSettings):
    """MongoDB (``MONGO_*``)."""

    model_config = SettingsConfigDict(env_prefix="MONGO_", frozen=True)

    url: MongoDsn = Field(
        MongoDsn("mongodb://127.0.0.1:27017"),
        description="Address, with user and password where it has them.",
        repr=False,
    )
    database: str = Field("docreco", min_length=1, max_length=63, description="Database.")
    timeout_seconds: float = Field(5.0, gt=0, le=60, description="Limit to find a server.")


class LogSettings(BaseSettings):
    """Logs (``LOG_*``)."""

    model_config = SettingsConfigDict(env_prefix="LOG_", frozen=True)

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level.")
    format: Literal["json", "console"] = Field("json", description="For machines or for people.")
