"""Settings of the servers and services as child processes of ``run_local.sh`` and the tests."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.runtime.settings import Port

FORWARDED = re.compile(
    r"PATH|HOME|USER|LANG|LC_.*|TZ|TMPDIR|TERM|SSL_CERT_(FILE|DIR)|COVERAGE_.*|PYTHON[A-Z]*"
)
"""Variables that a child process inherits, without settings of other servers."""


class Ports(BaseSettings):
    """Ports on 127.0.0.1, each with its environment variable (``LOCAL_*_PORT``)."""

    model_config = SettingsConfigDict(env_prefix="LOCAL_", frozen=True)

    ocr_api_port: Port = Field(8080, description="OCR API.")
    fetcher_port: Port = Field(8081, description="Fetcher.")
    review_port: Port = Field(8082, description="Review page.")
    consumer_port: Port = Field(8083, description="Health and metrics of the consumer.")
    reconciler_port: Port = Field(8084, description="Health and metrics of the reconciler.")
    segmenter_port: Port = Field(8085, description="Health and metrics of the segmenter.")
    shadow_port: Port = Field(8086, description="OCR API of the candidate model.")
    samples_port: Port = Field(8090, description="Web site of the bundled samples.")
    prometheus_port: Port = Field(9000, description="Prometheus.")
    alertmanager_port: Port = Field(9093, description="Alertmanager.")
    alert_webhook_port: Port = Field(9095, description="Example receiver of alerts.")
    minio_port: Port = Field(9002, description="S3 API of MinIO.")
    minio_console_port: Port = Field(9003, description="Console of MinIO.")
    mongo_port: Port = Field(27017, description="MongoDB, or its stand-in.")
    rabbitmq_port: Port = Field(5672, description="AMQP of RabbitMQ.")
    rabbitmq_management_port: Port = Field(15672, description="Management of RabbitMQ.")
    rabbitmq_metrics_port: Port = Field(15692, description="Metrics of RabbitMQ.")
    rabbitmq_distribution_port: Port = Field(25672, description="Erlang node of RabbitMQ.")
    epmd_port: Port = Field(
        4370, description="Erlang port mapper; not 4369, which Debian's own service holds."
    )

    @classmethod
    def variable(cls, field: str) -> str:
        """Return the environment variable of a field."""
        return f"LOCAL_{field}".upper()


class LocalSettings(BaseSettings):
    """Folders and users of the local servers (``LOCAL_*``)."""

    model_config = SettingsConfigDict(env_prefix="LOCAL_", frozen=True)

    folder: Path = Field(Path(".local"), description="Data and logs, kept between runs.")
    index_stalled_seconds: float = Field(
        180.0,
        gt=0,
        le=86_400,
        description="Timeout after the last new document of a list.",
    )
    shadow_model: str = Field(
        "",
        description="Candidate model that reads `CONSUMER_SHADOW_RATE` of the new images, too.",
    )
    minio_user: str = Field("minioadmin", min_length=3, description="Root user of MinIO.")
    minio_password: SecretStr = Field(
        SecretStr("minioadmin"), min_length=8, description="Its password."
    )
    rabbitmq_user: str = Field(
        "admin", min_length=1, description="User of RabbitMQ; read at the first start only."
    )
    rabbitmq_password: SecretStr = Field(
        SecretStr("admin"), min_length=1, description="Its password."
    )


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a child process: inherited variables and ``extra``."""
    forwarded = {name: value for name, value in os.environ.items() if FORWARDED.fullmatch(name)}
    return forwarded | dict(extra or {})
