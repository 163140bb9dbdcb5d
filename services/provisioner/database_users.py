"""MongoDB users with least privileges, one per service.

Users and roles are in the database ``admin``, where clients look for them by default.
"""

from collections.abc import Iterator, Mapping, Sequence

from services.common.adapters.collections import (
    BATCHES,
    FETCHES,
    FORGOTTEN,
    HOSTS,
    IMAGES,
    LABEL_STUDIO,
    LISTS,
    PAGES,
    REVIEW_LEASES,
    TOMBSTONES,
)
from services.common.adapters.mongo import USERS_DATABASE, Database, Document
from services.provisioner.settings import UsersSettings

READ = ("find",)
UPDATE = ("find", "update")
WRITE = ("find", "insert", "update")
ALL = ("find", "insert", "update", "remove")
RIGHTS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "fetcher": {BATCHES: ALL, FETCHES: ALL, LISTS: ALL, HOSTS: WRITE, FORGOTTEN: READ},
    "consumer": {IMAGES: WRITE, TOMBSTONES: WRITE, FETCHES: READ, FORGOTTEN: READ},
    "reconciler": {IMAGES: READ, PAGES: READ},
    "segmenter": {PAGES: WRITE, IMAGES: READ, FETCHES: READ, FORGOTTEN: READ},
    "review": {
        IMAGES: UPDATE,
        REVIEW_LEASES: WRITE,
        LABEL_STUDIO: WRITE,
        FETCHES: UPDATE,
        LISTS: UPDATE,
        FORGOTTEN: ("find", "insert"),
        PAGES: READ,
        TOMBSTONES: ("find", "remove"),
    },
}
"""Allowed actions of each service by collection; a test compares them with the code."""


async def apply_database_users(database: Database, users: UsersSettings) -> None:
    """Create or replace the users whose password is set, and their roles.

    Raises:
        DatabaseUnavailableError: MongoDB does not answer, or refuses.
    """
    for create, update in user_commands(database.name, users):
        await database.create_or_update(create, update)


def user_commands(database: str, users: UsersSettings) -> Iterator[tuple[Document, Document]]:
    """Yield the commands that create each role and user, and those that update it."""
    passwords = {
        "fetcher": users.fetcher_password,
        "consumer": users.consumer_password,
        "reconciler": users.reconciler_password,
        "review": users.review_password,
        "segmenter": users.segmenter_password,
    }
    for name, rights in RIGHTS.items():
        if (password := passwords[name]) is None:
            continue
        role = f"{database}-{name}"
        privileges = [
            {"resource": {"db": database, "collection": collection}, "actions": list(actions)}
            for collection, actions in rights.items()
        ]
        allowed: Document = {"privileges": privileges, "roles": []}
        account: Document = {
            "pwd": password.get_secret_value(),
            "roles": [{"role": role, "db": USERS_DATABASE}],
        }
        yield {"createRole": role, **allowed}, {"updateRole": role, **allowed}
        yield {"createUser": name, **account}, {"updateUser": name, **account}
