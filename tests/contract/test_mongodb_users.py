"""MongoDB's users: their rights are those that the code of each service needs, and no others."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.common.adapters import mongo as database
from services.provisioner.database_users import RIGHTS, user_commands
from services.provisioner.settings import UsersSettings
from tests.support.compose import ROOT, parsed

PASSWORD = SecretStr("some-password")
USERS = UsersSettings.model_validate(dict.fromkeys(UsersSettings.model_fields, PASSWORD))
DRIVER = Path(database.__file__)
NO_COLLECTION = {"check", "fields", "name"}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)


def files_of(module: str) -> set[Path]:
    """Return the files of a module and of all of ours that it imports."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        path = ROOT.joinpath(*waiting.pop().split("."))
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.exists() and file not in found:
                found.add(file)
                waiting += [each for each in imported(file) if each.startswith("services.")]
    return found


@pytest.mark.parametrize("service", RIGHTS)
def test_service_may_use_the_collections_that_its_code_names(service: str) -> None:
    texts = [path.read_text() for path in files_of(f"services.{service}.main") if path != DRIVER]
    used = {name for text in texts for name in re.findall(r"\bdatabase\.([a-z_]+)\b(?!\()", text)}

    assert used - NO_COLLECTION == RIGHTS[service].keys()


def test_rights_are_of_one_database_and_not_administrative() -> None:
    for create, update in user_commands("docreco", USERS):
        assert list(create.items())[1:] == list(update.items())[1:]
        for privilege in create.get("privileges", []):
            assert privilege["resource"]["db"] == "docreco"
            assert set(privilege["actions"]) <= {"find", "insert", "update", "remove"}


def test_user_has_its_own_role_alone() -> None:
    commands = [create for create, _ in user_commands("docreco", USERS)]
    made = [each["createUser"] for each in commands if "createUser" in each]

    assert made == list(RIGHTS)
    for each in commands:
        if "createUser" in each:
            role = {"role": f"docreco-{each['createUser']}", "db": "admin"}
            assert each["roles"] == [role]
            assert each["pwd"] == PASSWORD.get_secret_value()


def test_user_without_a_password_is_not_made() -> None:
    assert not list(user_commands("docreco", UsersSettings(minio_password=PASSWORD)))


def test_only_the_provisioner_is_mongodb_s_administrator() -> None:
    given = {"MONGO_ROOT_USER": "root", "MONGO_ROOT_PASSWORD": "own-password"}
    services = parsed(given)["services"]
    knowing = {name for name, each in services.items() if "own-password" in json.dumps(each)}

    assert knowing == {"mongo", "preflight", "provisioner"}
    assert services["provisioner"]["environment"]["PROVISIONER_MONGO_USERS"] == "true"
    for name in RIGHTS:
        environment = services[name]["environment"]
        assert environment["MONGO_USER"] == name
        assert environment["MONGO_PASSWORD"] == environment["S3_SECRET_ACCESS_KEY"]
        assert "@" not in environment["MONGO_URL"]
