"""Settings of each service, and their names in the compose file.

``docker-compose.yml`` names every setting of a service without a value: it reaches the container
only if ``.env`` or the environment has one. ``python -m infra.settings_table`` writes the names.
"""

import textwrap
from collections.abc import Iterator, Mapping

from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from app.engines.settings import ModelsSettings, RapidSettings, TrocrSettings
from app.settings import OcrSettings
from services.common.download.settings import DownloadSettings
from services.common.runtime.settings import (
    AmqpSettings,
    MongoSettings,
    RabbitmqManagementSettings,
    S3Settings,
)
from services.consumer.settings import ConsumerSettings
from services.fetcher.settings import FetcherSettings
from services.fetcher.sources.archives.settings import ArchiveSettings
from services.label_studio.settings import LabelStudioSettings
from services.provisioner.settings import (
    AccessSettings,
    PreflightSettings,
    ProvisionerSettings,
    ServerPasswords,
    UsersSettings,
)
from services.reconciler.settings import ReconcilerSettings
from services.review.settings import ReviewSettings
from services.segmenter.settings import SegmenterSettings

SERVICES: Mapping[str, tuple[type[BaseSettings], ...]] = {
    "preflight": (PreflightSettings, ServerPasswords, UsersSettings, AccessSettings, MongoSettings),
    "provisioner": (
        *(ProvisionerSettings, RabbitmqManagementSettings, UsersSettings),
        *(S3Settings, MongoSettings),
    ),
    "ocr-api": (
        *(OcrSettings, RapidSettings, TrocrSettings, ModelsSettings, DownloadSettings),
        S3Settings,
    ),
    "fetcher": (
        *(FetcherSettings, DownloadSettings, ArchiveSettings),
        *(S3Settings, AmqpSettings, MongoSettings),
    ),
    "consumer": (ConsumerSettings, DownloadSettings, S3Settings, AmqpSettings, MongoSettings),
    "reconciler": (ReconcilerSettings, S3Settings, AmqpSettings, MongoSettings),
    "segmenter": (SegmenterSettings, S3Settings, AmqpSettings, MongoSettings),
    "review": (ReviewSettings, LabelStudioSettings, S3Settings, AmqpSettings, MongoSettings),
}
"""Settings classes of each service, beside the common ones."""

OF_THE_DEPLOYMENT = frozenset(
    {
        *("OCR_HOST", "OCR_PORT", "FETCHER_HOST", "FETCHER_PORT", "CONSUMER_HOST", "CONSUMER_PORT"),
        *("RECONCILER_HOST", "RECONCILER_PORT", "REVIEW_HOST", "REVIEW_PORT"),
        *("SEGMENTER_HOST", "SEGMENTER_PORT"),
        *("S3_ENDPOINT_URL", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "AMQP_URL", "MONGO_URL"),
        *("MONGO_USER", "MONGO_PASSWORD", "PROVISIONER_MONGO_USERS"),
        *("RABBITMQ_MANAGEMENT_URL", "RABBITMQ_MANAGEMENT_USER", "RABBITMQ_MANAGEMENT_PASSWORD"),
        *("REVIEW_FETCHER_URL", "REVIEW_FETCHER_TOKEN", "REVIEW_PROMETHEUS_URL"),
        *("PREFLIGHT_KMS_KEY_FILE", "PREFLIGHT_KMS_KEY", "PREFLIGHT_CONFIGURATION"),
        *("PROVISIONER_DEFINITIONS", "PROVISIONER_NOTIFICATION_ARN"),
        "PROVISIONER_PAGES_NOTIFICATION_ARN",
    }
)
"""Addresses, ports and users, set by the compose file and the manifests."""


def variables(group: type[BaseSettings], *, secret: bool | None = None) -> Iterator[str]:
    """Yield the environment variables that a settings class reads.

    Args:
        group: The class.
        secret: True: only secrets; False: no secrets; None: all.
    """
    prefix = group.model_config.get("env_prefix", "")
    for name, field in group.model_fields.items():
        if secret is not None and secret != ("SecretStr" in str(field.annotation)):
            continue
        if isinstance(field.validation_alias, AliasChoices):
            yield from map(str, field.validation_alias.choices)
        else:
            yield f"{prefix}{name}".upper()


def variables_of(service: str) -> list[str]:
    """Return the settings that are passed on unchanged to a service, sorted."""
    found = {name for group in SERVICES[service] for name in variables(group)}
    return sorted(
        name for name in found - OF_THE_DEPLOYMENT if not name.startswith(("USERS_", "LOG_"))
    )


def compose_settings() -> str:
    """Return the section of the compose file with each service's settings."""
    return "\n".join(_block(service) for service in SERVICES)


def _block(service: str) -> str:
    names = textwrap.fill(
        ", ".join(variables_of(service)),
        width=100,
        initial_indent="  { ",
        subsequent_indent="    ",
        break_long_words=False,
    )
    return f"x-{service}-settings: &{service}-settings\n{names} }}"
