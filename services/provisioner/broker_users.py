"""RabbitMQ users with least privileges, one per service, as definitions."""

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import SecretStr

from services.common.adapters.rabbitmq.retry_policy import (
    FETCH_QUEUES,
    OCR_QUEUES,
    PAGE_QUEUES,
    REPREDICT_QUEUES,
)
from services.provisioner.settings import UsersSettings

VHOST = "/"
NOTHING = "^$"
DEFAULT_EXCHANGE = r"^amq\.default$"
"""Required to publish directly to a queue; RabbitMQ has no finer permission."""


class _User(NamedTuple):
    name: str
    password: SecretStr | None
    """None: there is no such user."""
    configure: str = NOTHING
    write: str = NOTHING
    read: str = NOTHING
    tags: str = ""


def with_users(definitions: bytes, users: UsersSettings) -> bytes:
    """Add the users and their permissions to definitions (JSON)."""
    merged = json.loads(definitions)
    merged["users"] = []
    merged["permissions"] = []
    for user in _users(users):
        if user.password is None:
            continue
        secret = user.password.get_secret_value()
        merged["users"].append({"name": user.name, "password": secret, "tags": user.tags})
        rights = {"configure": user.configure, "write": user.write, "read": user.read}
        merged["permissions"].append({"user": user.name, "vhost": VHOST, **rights})
    return json.dumps(merged).encode()


def _users(users: UsersSettings) -> Iterator[_User]:
    """Yield the users.

    MinIO redeclares its exchanges at every event, so it may configure these.

    Reading the depth of a queue needs some permission (RabbitMQ 4.2.8, 4.3.1 and later). For a
    queue that a service does not consume it is ``write``: alone it allows nothing, as binding the
    queue also needs ``read`` on the exchange.
    """
    events = r"^raw\.events$|^pages\.events$"
    yield _User("minio", users.minio_password, configure=events, write=events)
    yield _User(
        *("fetcher", users.fetcher_password),
        write=_any_of(DEFAULT_EXCHANGE, *_names(FETCH_QUEUES.exchange, *FETCH_QUEUES.delays)),
        read=rf"^{re.escape(FETCH_QUEUES.work)}\.[0-9]+$|^{re.escape(FETCH_QUEUES.members)}$",
    )
    for name, password, consumed, measured in (
        ("consumer", users.consumer_password, (OCR_QUEUES.work, REPREDICT_QUEUES.work), ()),
        # To skip parked images, it must read the parking queue
        (
            *("reconciler", users.reconciler_password),
            (OCR_QUEUES.parked, PAGE_QUEUES.parked),
            (OCR_QUEUES.work, PAGE_QUEUES.work),
        ),
        # Pages wait while too many images do
        ("segmenter", users.segmenter_password, (PAGE_QUEUES.work,), (OCR_QUEUES.work,)),
        # To remove parked messages of deleted images, which hold source and annotation
        ("review", users.review_password, (OCR_QUEUES.parked, FETCH_QUEUES.parked), ()),
    ):
        write = _any_of(DEFAULT_EXCHANGE, *_names(*measured))
        yield _User(name, password, write=write, read=_any_of(*_names(*consumed)))
    yield _User("monitoring", users.monitoring_password, tags="monitoring")


def _names(*queues: str) -> list[str]:
    return [f"^{re.escape(queue)}$" for queue in queues]


def _any_of(*patterns: str) -> str:
    return "|".join(patterns)
