"""MongoDB with passwords: the services' own users, made and used as in the compose file.

The stand-in knows what a user may do, but not in which collection: see tests/contract for that.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
import pytest_asyncio
from pydantic import MongoDsn, SecretStr

from infra.local import servers
from infra.local.locate import locate_mongo
from infra.local.ports import pick_free_ports
from infra.local.settings import LocalSettings
from infra.local.supervisor import Supervisor
from services.common.adapters.mongo import USERS_DATABASE, Database, open_database
from services.common.domain.errors import DatabaseUnavailableError
from services.common.runtime.settings import MongoSettings
from services.provisioner.database_users import apply_database_users
from services.provisioner.settings import UsersSettings

ROOT, OLD, NEW = (SecretStr(f"only-for-tests-{number}") for number in range(3))


def users_with(password: SecretStr) -> UsersSettings:
    return UsersSettings(
        fetcher_password=password,
        consumer_password=password,
        reconciler_password=password,
        segmenter_password=password,
        review_password=password,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def protected(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MongoDsn]:
    """A server that asks for passwords, with an administrator, like the image after its start."""
    executable = locate_mongo()
    assert executable is not None
    settings = LocalSettings(folder=tmp_path_factory.mktemp("mongo-with-passwords"))
    home = servers.Home(settings, pick_free_ports())
    program = servers.mongo(executable, home)
    root = {"pwd": ROOT.get_secret_value(), "roles": [{"role": "root", "db": USERS_DATABASE}]}
    async with Supervisor(lambda _: None) as supervisor:
        await supervisor.start(program)
        async with open_database(MongoSettings(url=MongoDsn(home.mongo_url))) as database:
            await database.create_or_update({"createUser": "root", **root}, {})
        await supervisor.stop(program.name)
        await supervisor.start(replace(program, argv=[*program.argv, "--auth"]))
        yield MongoDsn(home.mongo_url)


async def opened(url: MongoDsn, stack: AsyncExitStack, user: str, password: SecretStr) -> Database:
    settings = MongoSettings(url=url, user=user, password=password)
    return await stack.enter_async_context(open_database(settings))


async def test_service_does_its_work_and_nothing_else(protected: MongoDsn) -> None:
    async with AsyncExitStack() as stack:
        root = await opened(protected, stack, "root", ROOT)
        for _ in range(2):  # each step may be repeated
            await apply_database_users(root, users_with(OLD))
        await root.images.insert({"_id": "raw/a.png", "status": "predicted"})
        fetcher = await opened(protected, stack, "fetcher", OLD)
        consumer = await opened(protected, stack, "consumer", OLD)
        reconciler = await opened(protected, stack, "reconciler", OLD)
        review = await opened(protected, stack, "review", OLD)

        await fetcher.batches.insert({"_id": "one"})
        assert await fetcher.batches.find_and_update({"_id": "one"}, {"$set": {"name": "x"}})
        assert await fetcher.batches.delete_many({"_id": "one"}) == 1
        await consumer.images.update_one({"_id": "raw/b.png"}, {"$set": {"x": 1}}, upsert=True)
        assert await reconciler.images.count({}) == 2
        assert len(await reconciler.images.aggregate([{"$match": {}}])) == 2
        assert await review.review_leases.update_one({"_id": "x"}, {"$set": {"y": 1}}, upsert=True)

        with pytest.raises(DatabaseUnavailableError, match="not authorized"):
            await consumer.images.delete_many({})
        with pytest.raises(DatabaseUnavailableError, match="not authorized"):
            await reconciler.images.update_many({}, {"$set": {"x": 2}})
        for service in (fetcher, consumer, reconciler, review):
            await service.check()
            with pytest.raises(DatabaseUnavailableError, match="not authorized"):
                await service.create_indexes()
            with pytest.raises(DatabaseUnavailableError, match="not authorized"):
                await apply_database_users(service, users_with(NEW))


async def test_changed_password_is_taken_and_the_old_one_is_not(protected: MongoDsn) -> None:
    async with AsyncExitStack() as stack:
        root = await opened(protected, stack, "root", ROOT)
        await apply_database_users(root, users_with(OLD))
        await apply_database_users(root, users_with(NEW))

        assert await (await opened(protected, stack, "reconciler", NEW)).images.count({}) >= 0
        with pytest.raises(DatabaseUnavailableError, match="uthentication failed"):
            await (await opened(protected, stack, "reconciler", OLD)).images.count({})


async def test_user_by_itself_goes_before_the_one_of_the_address(protected: MongoDsn) -> None:
    whole = MongoDsn(str(protected).replace("://", f"://root:{ROOT.get_secret_value()}@"))
    async with AsyncExitStack() as stack:
        root = await stack.enter_async_context(open_database(MongoSettings(url=whole)))
        await apply_database_users(root, users_with(OLD))

        reconciler = await opened(whole, stack, "reconciler", OLD)
        with pytest.raises(DatabaseUnavailableError, match="not authorized"):
            await reconciler.images.delete_many({})
