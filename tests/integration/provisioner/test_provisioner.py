"""The set-up of real servers, and that it may be repeated."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession, encode_basic_auth
from botocore.exceptions import ClientError
from pydantic import HttpUrl, MongoDsn, SecretStr
from yarl import URL

from services.common.adapters.mongo import open_database
from services.common.adapters.object_store import open_object_store
from services.common.adapters.rabbitmq.retry_policy import FETCH_QUEUES, OCR_QUEUES
from services.common.domain.errors import BrokerUnavailableError, DocumentRefusedError
from services.common.runtime.settings import MongoSettings, RabbitmqManagementSettings, S3Settings
from services.provisioner.broker import DefinitionsRefusedError, apply_definitions
from services.provisioner.bucket import NOTIFIED_EVENTS, set_up_bucket
from services.provisioner.main import main, provision
from services.provisioner.settings import ProvisionerSettings
from tests.support.notifying import PAGES_ARN, USUAL_ARN
from tests.support.review import known
from tests.support.slow_link import open_slow_link
from tests.support.waiting import DEADLINE_SECONDS

if TYPE_CHECKING:  # stubs are a development dependency
    from types_aiobotocore_s3.type_defs import LifecycleRuleTypeDef, QueueConfigurationTypeDef

DEFINITIONS = Path(__file__).parents[3] / "rabbitmq" / "definitions.json"


async def test_set_up_twice_is_as_once(
    management: RabbitmqManagementSettings, s3_settings: S3Settings, mongo_settings: MongoSettings
) -> None:
    settings = ProvisionerSettings(definitions=DEFINITIONS, wait_seconds=20)
    for _ in range(2):
        await provision(settings, management=management, s3=s3_settings, mongo=mongo_settings)

    async with open_object_store(s3_settings) as store:
        client, bucket = store.client, store.bucket
        rule = await client.get_bucket_notification_configuration(Bucket=bucket)
        [queue] = rule["QueueConfigurations"]
        assert queue["QueueArn"] == settings.notification_arn
        assert set(queue["Events"]) == set(NOTIFIED_EVENTS)
        encryption = await client.get_bucket_encryption(Bucket=bucket)
        [default] = encryption["ServerSideEncryptionConfiguration"]["Rules"]
        assert default["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
        submitted = s3_settings.submitted_bucket
        rule = await client.get_bucket_notification_configuration(Bucket=submitted)
        assert not rule.get("QueueConfigurations")
        (expiry,) = (await client.get_bucket_lifecycle_configuration(Bucket=submitted))["Rules"]
        assert expiry["Expiration"]["Days"] == settings.submitted_kept_days
        with pytest.raises(ClientError, match="NoSuchBucketPolicy"):
            await client.get_bucket_policy(Bucket=bucket)
    async with open_database(mongo_settings) as database:
        names = await database.create_indexes()
        await database.images.insert(known("a line", 0.5))
        with pytest.raises(DocumentRefusedError):
            await database.images.insert(known("another", 0.5, annotation={"text": "no author"}))
    assert "images.prediction.score_1__id_1" in names


@pytest.mark.parametrize("request_name", [b"createIndexes", b"aggregate"])
async def test_large_collections_are_waited_for(
    management: RabbitmqManagementSettings,
    s3_settings: S3Settings,
    mongo_settings: MongoSettings,
    request_name: bytes,
) -> None:
    settings = ProvisionerSettings(definitions=DEFINITIONS, wait_seconds=DEADLINE_SECONDS)
    server = URL(str(mongo_settings.url))
    assert server.host
    async with open_slow_link(server.host, server.port or 27017) as link:
        link.delay_seconds = 4.5  # the driver waits 4 * 1 s
        link.slow_request = b"%b\0\x07\0\0\0images\0" % request_name  # as BSON
        url = MongoDsn(f"mongodb://127.0.0.1:{link.port}")
        hurried = mongo_settings.model_copy(update={"url": url, "timeout_seconds": 1.0})

        await provision(settings, management=management, s3=s3_settings, mongo=hurried)


async def test_rules_of_others_stay(s3_settings: S3Settings) -> None:
    mine: QueueConfigurationTypeDef = {
        "Id": "mine",
        "QueueArn": PAGES_ARN,
        "Events": ["s3:ObjectCreated:Put"],
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "mine/"}]}},
    }
    short: LifecycleRuleTypeDef = {
        "ID": "short",
        "Status": "Enabled",
        "Filter": {"Prefix": "short/"},
        "Expiration": {"Days": 1},
    }
    async with open_object_store(s3_settings) as store:
        client, bucket = store.client, store.bucket
        set_up = partial(set_up_bucket, store, notification_arn=USUAL_ARN, kept_days=7)
        await set_up()
        present = await client.get_bucket_notification_configuration(Bucket=bucket)
        await client.put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={
                "QueueConfigurations": [*present["QueueConfigurations"], mine]
            },
        )
        await client.put_bucket_lifecycle_configuration(
            Bucket=bucket, LifecycleConfiguration={"Rules": [short]}
        )

        for _ in range(2):
            await set_up()

        found = await client.get_bucket_notification_configuration(Bucket=bucket)
        rules = {each["QueueArn"]: each for each in found["QueueConfigurations"]}
        assert rules.keys() == {PAGES_ARN, USUAL_ARN}
        assert rules[PAGES_ARN] == mine
        lifecycle = await client.get_bucket_lifecycle_configuration(Bucket=bucket)
        days = {each.get("ID"): each["Expiration"].get("Days") for each in lifecycle["Rules"]}
        assert days == {"short": 1, "expiry": 7}


async def test_image_cannot_be_read_without_credentials(
    management: RabbitmqManagementSettings, s3_settings: S3Settings, mongo_settings: MongoSettings
) -> None:
    settings = ProvisionerSettings(definitions=DEFINITIONS, wait_seconds=20)
    await provision(settings, management=management, s3=s3_settings, mongo=mongo_settings)
    async with open_object_store(s3_settings) as store:
        await store.write("a.png", b"bytes", content_type="image/png", metadata={})

    async with (
        ClientSession() as session,
        session.get(f"{s3_settings.endpoint_url}{s3_settings.bucket}/a.png") as response,
    ):
        assert response.status == 403


async def test_queues_of_the_code_are_those_of_the_definitions(
    management: RabbitmqManagementSettings,
) -> None:
    await apply_definitions(management, DEFINITIONS.read_bytes())
    login = encode_basic_auth(management.user, management.password.get_secret_value())
    async with (
        ClientSession(headers={"Authorization": login}) as session,
        session.get(f"{management.url}api/queues/%2F") as response,
    ):
        declared = {queue["name"]: queue for queue in await response.json()}

    for queues in (OCR_QUEUES, FETCH_QUEUES):
        for name in (*queues.consumed, *queues.delays, queues.parked):
            assert declared[name]["type"] == "quorum"
        for name in queues.delays:
            arguments = declared[name]["arguments"]
            assert arguments["x-dead-letter-exchange"] == queues.exchange
            assert queues.exchange or arguments["x-dead-letter-routing-key"] == queues.work
    assert "raw.unrouted" in declared


@pytest.mark.parametrize(
    ("queue_type", "limit", "reason"),
    [
        ("no such type", 100, "another arguments"),
        ("quorum", 7, r"ocr\.jobs is there with another arguments"),
    ],
)
async def test_conflicting_definitions_are_refused_with_the_reason(
    management: RabbitmqManagementSettings, queue_type: str, limit: int, reason: str
) -> None:
    await apply_definitions(management, DEFINITIONS.read_bytes())
    other = json.loads(DEFINITIONS.read_bytes())
    other["queues"][0]["arguments"] |= {"x-queue-type": queue_type, "x-delivery-limit": limit}

    with pytest.raises(DefinitionsRefusedError, match=reason):
        await apply_definitions(management, json.dumps(other).encode())


async def test_definitions_that_are_no_definitions_are_refused(
    management: RabbitmqManagementSettings,
) -> None:
    with pytest.raises(DefinitionsRefusedError, match="HTTP 400"):
        await apply_definitions(management, b"not JSON")


async def test_missing_server_is_named() -> None:
    nowhere = RabbitmqManagementSettings(url=HttpUrl("http://127.0.0.1:9"))

    with pytest.raises(BrokerUnavailableError, match=r"127\.0\.0\.1:9"):
        await apply_definitions(nowhere, b"{}")


def test_command_ends_with_status_one_where_a_server_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RABBITMQ_MANAGEMENT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PROVISIONER_WAIT_SECONDS", "0.1")
    monkeypatch.setenv("PROVISIONER_DEFINITIONS", str(DEFINITIONS))

    assert main() == 1


def test_secrets_do_not_show() -> None:
    shown = repr(RabbitmqManagementSettings(password=SecretStr("hidden")))
    shown += repr(MongoSettings(url=MongoDsn("mongodb://user:hidden@127.0.0.1")))

    assert "hidden" not in shown
