"""A second target of MinIO's events, without the folder that it looks into every three seconds.

What the usual one promises (no event is lost while RabbitMQ is away) is proved in tests/e2e and
tests/chaos; the tests of what follows an event have it at once.
"""

from botocore.exceptions import ClientError

from infra.local.servers import notification_environment
from services.common.adapters.object_store import ObjectStore

USUAL_ARN = "arn:minio:sqs::RAW:amqp"
PAGES_ARN = "arn:minio:sqs::PAGES:amqp"
AT_ONCE_ARN = "arn:minio:sqs::NOW:amqp"


def target_at_once(amqp_url: str) -> dict[str, str]:
    """Return the settings that give MinIO the second target."""
    usual = notification_environment(amqp_url, queue_dir="")
    return {
        name.removesuffix("RAW") + "NOW": value
        for name, value in usual.items()
        if name.endswith("_RAW") and "_QUEUE_" not in name
    }


async def fastest_arn(store: ObjectStore) -> str:
    """Return the second target's name, or the usual one's where the server has no other.

    Args:
        store: Of a bucket that is there.
    """
    try:
        await store.client.put_bucket_notification_configuration(
            Bucket=store.bucket,
            NotificationConfiguration={
                "QueueConfigurations": [
                    {"QueueArn": AT_ONCE_ARN, "Events": ["s3:ObjectCreated:Put"]}
                ]
            },
        )
    except ClientError:
        return USUAL_ARN
    return AT_ONCE_ARN
