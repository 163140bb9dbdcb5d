"""Set up a bucket: privacy, encryption, notifications, expiry."""

from contextlib import suppress
from typing import TYPE_CHECKING

from services.common.adapters.object_store import ObjectStore
from services.provisioner.notification_rules import names_of, prefixes_of

if TYPE_CHECKING:  # stubs are a development dependency
    from types_aiobotocore_s3.literals import EventType
    from types_aiobotocore_s3.type_defs import LifecycleRuleTypeDef, QueueConfigurationTypeDef

NOTIFIED_EVENTS: tuple["EventType", ...] = (
    "s3:ObjectCreated:Put",
    "s3:ObjectCreated:CompleteMultipartUpload",
    "s3:ObjectCreated:Copy",
    "s3:ObjectRemoved:*",
)
"""Not ``s3:ObjectCreated:*``: it includes changed tags, which need no new prediction."""


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
        await client.put_bucket_encryption(
            Bucket=bucket,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
            },
        )
        if notification_arn is not None:
            rules = _rules(notification_arn, targets)
            await client.put_bucket_notification_configuration(
                Bucket=bucket, NotificationConfiguration={"QueueConfigurations": rules}
            )
        if kept_days is not None:
            expiry: LifecycleRuleTypeDef = {
                "ID": "expiry",
                "Status": "Enabled",
                "Filter": {"Prefix": ""},
                "Expiration": {"Days": kept_days},
            }
            await client.put_bucket_lifecycle_configuration(
                Bucket=bucket, LifecycleConfiguration={"Rules": [expiry]}
            )


def _rules(arn: str, targets: int) -> "list[QueueConfigurationTypeDef]":
    """Return a rule for each prefix of each target."""
    shared = zip(names_of(arn, targets), prefixes_of(targets), strict=True)
    return [_rule(name, prefix) for name, prefixes in shared for prefix in prefixes]


def _rule(arn: str, prefix: str) -> "QueueConfigurationTypeDef":
    rule: QueueConfigurationTypeDef = {"QueueArn": arn, "Events": list(NOTIFIED_EVENTS)}
    if prefix:
        rule["Filter"] = {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}]}}
    return rule
