"""Who may import whom: a wrong arrow is a wrong design."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ("fetcher", "consumer", "provisioner", "reconciler", "datasets", "review")
LIBRARIES = ("services.quality", "services.erasure", "services.label_studio")
DRIVERS = {
    "motor": "services/common/adapters/mongo.py",
    "pymongo": "services/common/adapters/mongo.py",
    "bson": "services/common/adapters/mongo.py",
    "aiobotocore": "services/common/adapters/object_store.py",
    "botocore": "services/common/adapters/object_store.py",
    "aio_pika": "services/common/adapters/rabbitmq/messaging.py",
}


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return names


def starts_with(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize(
    "package", ["app", "services/common", *(f"services/{s}" for s in SERVICES)]
)
def test_package_imports_only_itself_and_common(package: str) -> None:
    allowed = {package.replace("/", "."), "services.common", *LIBRARIES}
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        ours = {name for name in imports(path) if starts_with(name, {"app", "services", "infra"})}
        wrong = {name for name in ours if not starts_with(name, allowed)}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_each_driver_lives_in_one_file() -> None:
    for folder in ("app", "services"):
        for path in (ROOT / folder).rglob("*.py"):
            where = path.relative_to(ROOT).as_posix()
            for name in imports(path):
                driver = name.split(".")[0]
                assert DRIVERS.get(driver, where) == where, f"{where} imports {name}"
