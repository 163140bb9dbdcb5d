"""Errors of commands that use RabbitMQ and MinIO."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from services.cli.errors import ServiceDownError, address_of, reason_of
from services.common.domain.errors import BrokerUnavailableError, ObjectStoreUnavailableError
from services.common.runtime.settings import AmqpSettings, S3Settings


@contextmanager
def told_of_servers() -> Iterator[None]:
    """Translate errors of RabbitMQ and MinIO into CommandError; mute the services' logs."""
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    except BrokerUnavailableError as error:
        raise ServiceDownError(
            "RabbitMQ",
            address_of(AmqpSettings().url),
            setting="AMQP_URL",
            reason=reason_of(error),
        ) from error
    except ObjectStoreUnavailableError as error:
        raise ServiceDownError(
            "MinIO",
            address_of(S3Settings().endpoint_url),
            setting="S3_ENDPOINT_URL",
            reason=reason_of(error),
        ) from error
    finally:
        structlog.configure(**before)
