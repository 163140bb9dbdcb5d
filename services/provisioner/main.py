"""Set up the servers: exchanges, queues, users, buckets and notifications, indexes.

``python -m services.provisioner.main`` runs once; every step is idempotent. Queues come before the
notification rule, as MinIO loses events without a queue.

See docs/decisions/0003-durable-notifications.md.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial

import structlog
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential,
)

from services.common.adapters.mongo import Database, open_database
from services.common.adapters.object_store import ObjectStore, open_object_store, sibling
from services.common.adapters.repository import TYPES, schema_of
from services.common.domain.errors import PipelineError, UnavailableError
from services.common.runtime.logs import configure_logging
from services.common.runtime.settings import (
    LogSettings,
    MongoSettings,
    RabbitmqManagementSettings,
    S3Settings,
)
from services.migration.migration import SCAN_SECONDS, Migration
from services.provisioner.broker import apply_definitions
from services.provisioner.broker_users import with_users
from services.provisioner.bucket import set_up_bucket
from services.provisioner.database_users import apply_database_users
from services.provisioner.settings import ProvisionerSettings, UsersSettings
from services.provisioner.store_users import apply_store_users

log = structlog.stdlib.get_logger(__name__)

Step = Callable[[], Awaitable[object]]


async def provision(
    settings: ProvisionerSettings,
    *,
    management: RabbitmqManagementSettings,
    s3: S3Settings,
    mongo: MongoSettings,
    users: UsersSettings | None = None,
) -> None:
    """Set all servers up, waiting for each to answer.

    Raises:
        UnavailableError: A server did not answer within ``wait_seconds``.
        PermanentError: A server refuses a request.
    """
    users = users or UsersSettings()
    declared = await asyncio.to_thread(settings.definitions.read_bytes)
    definitions = with_users(declared, users)

    async with (
        open_object_store(s3) as store,
        open_database(mongo, answer_seconds=SCAN_SECONDS) as database,
    ):
        steps: dict[str, Step] = {
            "queues and their users": partial(apply_definitions, management, definitions),
            **_steps_of_buckets(settings, s3, store),
            "buckets' users": partial(asyncio.to_thread, apply_store_users, s3, users),
            **_steps_of_database(database),
        }
        if settings.mongo_users:
            steps["MongoDB's users"] = partial(apply_database_users, database, users)
        for name, step in steps.items():
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(UnavailableError),
                stop=stop_after_delay(settings.wait_seconds),
                wait=wait_exponential(multiplier=0.2, max=2),
                reraise=True,
            ):
                with attempt:
                    await step()
            log.info("servers set up", step=name)


def _steps_of_buckets(
    settings: ProvisionerSettings, s3: S3Settings, store: ObjectStore
) -> dict[str, Step]:
    return {
        "bucket": partial(
            set_up_bucket,
            store,
            notification_arn=settings.notification_arn,
            targets=settings.notification_targets,
        ),
        "bucket of pages": partial(
            set_up_bucket,
            sibling(store, s3.pages_bucket),
            notification_arn=settings.pages_notification_arn,
        ),
        "bucket of submitted files": partial(
            set_up_bucket,
            sibling(store, s3.submitted_bucket),
            kept_days=settings.submitted_kept_days,
        ),
    }


def _steps_of_database(database: Database) -> dict[str, Step]:
    return {
        "indexes": database.create_indexes,
        **{
            f"schema of {each}": partial(database.require_schema, each, schema_of(each))
            for each in TYPES
        },
        "documents of earlier versions": partial(_migrate, database),
    }


async def _migrate(database: Database) -> None:
    report = await Migration(database).run()
    log.info("migrated", **asdict(report))


def main() -> int:
    """Run once; return the exit status."""
    configure_logging(LogSettings(), service="provisioner")
    work = provision(
        ProvisionerSettings(),
        management=RabbitmqManagementSettings(),
        s3=S3Settings(),
        mongo=MongoSettings(),
    )
    try:
        asyncio.run(work)
    except PipelineError as error:
        log.error("set-up failed", code=error.code, error=str(error))  # noqa: TRY400  not a bug
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
