"""RabbitMQ users with least privileges, one per service, as definitions."""

import json
import re

from pydantic import SecretStr

from services.common.adapters.rabbitmq.settlement import FETCH_QUEUES, OCR_QUEUES, REPREDICT_QUEUES
from services.provisioner.settings import UsersSettings

VHOST = "/"
NOTHING = "^$"
DEFAULT_EXCHANGE = r"^amq\.default$"
"""Required to publish directly to a queue; RabbitMQ has no finer permission."""


def with_users(definitions: bytes, users: UsersSettings) -> bytes:
    """Add the users and their permissions to definitions (JSON).

    MinIO redeclares its exchange at every event, so it may configure that one.

    Reading the depth of a queue needs some permission (RabbitMQ 4.2.8, 4.3.1 and later). For a
    queue that a service does not consume it is ``write``: alone it allows nothing, as binding the
    queue also needs ``read`` on the exchange.
    """
    merged = json.loads(definitions)
    merged["users"] = []
    merged["permissions"] = []

    def add(
        name: str, password: SecretStr | None, *, configure: str, write: str, read: str, tags: str
    ) -> None:
        if password is None:
            return
        secret = password.get_secret_value()
        merged["users"].append({"name": name, "password": secret, "tags": tags})
        rights = {"configure": configure, "write": write, "read": read}
        merged["permissions"].append({"user": name, "vhost": VHOST, **rights})

    events = r"^raw\.events$"
    add("minio", users.minio_password, configure=events, write=events, read=NOTHING, tags="")
    add(
        *("fetcher", users.fetcher_password),
        configure=NOTHING,
        write=_any_of(DEFAULT_EXCHANGE, *_names(FETCH_QUEUES.exchange, *FETCH_QUEUES.delays)),
        read=rf"^{re.escape(FETCH_QUEUES.work)}\.[0-9]+$|^{re.escape(FETCH_QUEUES.members)}$",
        tags="",
    )
    for name, password, consumed, measured in (
        ("consumer", users.consumer_password, (OCR_QUEUES.work, REPREDICT_QUEUES.work), ()),
        # To skip parked images, it must read the parking queue
        ("reconciler", users.reconciler_password, (OCR_QUEUES.parked,), (OCR_QUEUES.work,)),
        # To remove parked messages of deleted images, which hold source and annotation
        ("review", users.review_password, (OCR_QUEUES.parked, FETCH_QUEUES.parked), ()),
    ):
        write = _any_of(DEFAULT_EXCHANGE, *_names(*measured))
        read = _any_of(*_names(*consumed))
        add(name, password, configure=NOTHING, write=write, read=read, tags="")
    monitoring = users.monitoring_password
    add(
        *("monitoring", monitoring),
        configure=NOTHING,
        write=NOTHING,
        read=NOTHING,
        tags="monitoring",
    )
    return json.dumps(merged).encode()


def _names(*queues: str) -> list[str]:
    return [f"^{re.escape(queue)}$" for queue in queues]


def _any_of(*patterns: str) -> str:
    return "|".join(patterns)
