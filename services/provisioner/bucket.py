"""Set up a bucket: privacy, encryption, notifications, expiry.

What others have set beside ours stays: their notification and lifecycle rules, and another
encryption.
"""

from collections.abc import Awaitable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from services.common.adapters.object_store import ObjectStore
from services.common.domain.events import CREATED_EVENTS
from services.provisioner.notification_rules import MOST_TARGETS, names_of, prefixes_of

if TYPE_CHECKING:  # stubs are a development dependency
    from types_aiobotocore_s3.client import S3Client
    from types_aiobotocore_s3.literals import EventType
    from types_aiobotocore_s3.type_defs import (
        LifecycleRuleTypeDef,
        QueueConfigurationTypeDef,
        ServerSideEncryptionByDefaultTypeDef,
    )

T = TypeVar("T")

NOTIFIED_EVENTS: tuple["EventType", ...] = (*CREATED_EVENTS, "s3:ObjectRemoved:*")
EXPIRY = "expiry"
"""Id of our lifecycle rule."""
_NO_ENCRYPTION = "ServerSideEncryptionConfigurationNotFoundError"
_NO_LIFECYCLE = "NoSuchLifecycleConfiguration"


async def set_up_bucket(
    store: ObjectStore,
    *,
    notification_arn: str | None = None,
    targets: int = 1,
    kept_days: int | None = None,
) -> None:
    """Make a bucket private and encrypted (idempotent).

    Args:
        store: The bucket.
        notification_arn: MinIO's name of the AMQP target of its events,
            ``arn:minio:sqs::RAW:amqp``.
        targets: Number of targets that share the events; see ``notification_rules``.
        kept_days: Expiry of objects; None: never.

    Raises:
        ObjectStoreUnavailableError: The server does not answer, or refuses.
    """
    client, bucket = store.client, store.bucket
    async with store.errors():
        with suppress(client.exceptions.BucketAlreadyOwnedByYou):
            await client.create_bucket(Bucket=bucket)
        await client.delete_bucket_policy(Bucket=bucket)  # private
        await _encrypt(client, bucket)
        if notification_arn is not None:
            await _notify(client, bucket, notification_arn, targets)
        if kept_days is not None:
            await _expire(client, bucket, kept_days)


async def _encrypt(client: "S3Client", bucket: str) -> None:
    if await _found(client, client.get_bucket_encryption(Bucket=bucket), _NO_ENCRYPTION):
        return
    default: ServerSideEncryptionByDefaultTypeDef = {"SSEAlgorithm": "AES256"}
    await client.put_bucket_encryption(
        Bucket=bucket,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": default}]
        },
    )


async def _notify(client: "S3Client", bucket: str, arn: str, targets: int) -> None:
    present = await client.get_bucket_notification_configuration(Bucket=bucket)
    ours = names_of(arn, MOST_TARGETS)
    others = [
        each for each in present.get("QueueConfigurations", []) if each["QueueArn"] not in ours
    ]
    await client.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={"QueueConfigurations": [*others, *_rules(arn, targets)]},
    )


async def _expire(client: "S3Client", bucket: str, days: int) -> None:
    present = await _found(
        client, client.get_bucket_lifecycle_configuration(Bucket=bucket), _NO_LIFECYCLE
    )
    others = [each for each in present["Rules"] if each.get("ID") != EXPIRY] if present else []
    expiry: LifecycleRuleTypeDef = {
        "ID": EXPIRY,
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "Expiration": {"Days": days},
    }
    await client.put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": [*others, expiry]}
    )


async def _found(client: "S3Client", request: Awaitable[T], absent: str) -> T | None:
    """Return an answer, or None if the server says by this code that there is no such thing."""
    try:
        return await request
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != absent:
            raise
        return None


def _rules(arn: str, targets: int) -> "list[QueueConfigurationTypeDef]":
    """Return a rule for each prefix of each target."""
    shared = zip(names_of(arn, targets), prefixes_of(targets), strict=True)
    return [_rule(name, prefix) for name, prefixes in shared for prefix in prefixes]


def _rule(arn: str, prefix: str) -> "QueueConfigurationTypeDef":
    rule: QueueConfigurationTypeDef = {"QueueArn": arn, "Events": list(NOTIFIED_EVENTS)}
    if prefix:
        rule["Filter"] = {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}]}}
    return rule
