"""Refused configurations, and the key that is generated once."""

import base64
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from services.common.runtime.settings import (
    AmqpSettings,
    MongoSettings,
    RabbitmqManagementSettings,
    S3Settings,
)
from services.provisioner.preflight import (
    KeyConflictError,
    UnreadableFilesError,
    check_readable,
    keep_key,
    main,
)
from services.provisioner.settings import UsersSettings

OWN = {
    "MINIO_ROOT_PASSWORD": "own-password-1",
    "RABBITMQ_ADMIN_PASSWORD": "own-password-2",
    "GRAFANA_ADMIN_PASSWORD": "own-password-3",
    "USERS_FETCHER_PASSWORD": "own-password-4",
    "USERS_CONSUMER_PASSWORD": "own-password-5",
    "USERS_RECONCILER_PASSWORD": "own-password-9",
    "USERS_SEGMENTER_PASSWORD": "own-password-10",
    "USERS_MINIO_PASSWORD": "own-password-6",
    "USERS_MONITORING_PASSWORD": "own-password-7",
    "MONGO_URL": "mongodb://docreco:own-password-8@mongo:27017",
    "MONGO_ROOT_PASSWORD": "own-password-8",
    "FETCHER_API_TOKEN": "own-password-10",
    "OCR_API_TOKEN": "own-password-11",
    "REVIEW_LOGIN_PASSWORD": "own-password-12",
    "OCR_COLLECT": "0",
}
LOCAL = {
    "MONGO_ROOT_PASSWORD": "",
    "USERS_OCR_API_PASSWORD": "ocr-api-local",
    "MINIO_ROOT_PASSWORD": "minioadmin",
    "RABBITMQ_ADMIN_PASSWORD": "admin",
    "GRAFANA_ADMIN_PASSWORD": "admin",
    "USERS_FETCHER_PASSWORD": "fetcher-local",
    "USERS_CONSUMER_PASSWORD": "consumer-local",
    "USERS_RECONCILER_PASSWORD": "reconciler-local",
    "USERS_SEGMENTER_PASSWORD": "segmenter-local",
    "USERS_REVIEW_PASSWORD": "review-local",
    "USERS_MINIO_PASSWORD": "minio-local",
    "USERS_MONITORING_PASSWORD": "monitoring-local",
    "MONGO_URL": "mongodb://mongo:27017",
}
KEY = "name:" + base64.b64encode(b"k" * 32).decode()


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "key"
    monkeypatch.setenv("PREFLIGHT_KMS_KEY_FILE", str(path))
    monkeypatch.setenv("PREFLIGHT_KMS_KEY", "")  # as compose passes on what .env does not set
    return path


def test_local_passwords_are_taken_on_one_machine(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in LOCAL.items():
        monkeypatch.setenv(name, value)

    assert main() == 0
    assert key_file.exists()


@pytest.mark.parametrize("name", LOCAL)
def test_production_does_not_start_with_a_local_password(
    key_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setenv("DOCRECO_ENV", "production")
    for each, value in (OWN | {name: LOCAL[name]}).items():
        monkeypatch.setenv(each, value)

    assert main() == 1
    assert not key_file.exists()
    shown = capsys.readouterr().err
    assert "replace the default password" in shown
    assert "own-password" not in shown


@pytest.mark.parametrize("value", ["", "short", "fetcher-local"])
@pytest.mark.parametrize("name", ["FETCHER_API_TOKEN", "OCR_API_TOKEN", "REVIEW_LOGIN_PASSWORD"])
def test_production_does_not_open_a_port_to_all(
    key_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
) -> None:
    monkeypatch.setenv("DOCRECO_ENV", "production")
    for each, own in (OWN | {name: value}).items():
        monkeypatch.setenv(each, own)

    assert main() == 1
    assert not key_file.exists()
    shown = capsys.readouterr().err
    assert f"{name}: DOCRECO_ENV is production and port 808" in shown
    assert "is published" in shown


def test_production_wants_to_be_told_whether_to_collect(
    key_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCRECO_ENV", "production")
    for name, value in (OWN | {"OCR_COLLECT": ""}).items():
        monkeypatch.setenv(name, value)

    assert main() == 1
    assert not key_file.exists()
    assert "OCR_COLLECT: DOCRECO_ENV is production: say whether" in capsys.readouterr().err


def test_all_that_is_missing_is_told_at_once(
    key_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**LOCAL, "DOCRECO_ENV": "production"}.items():
        monkeypatch.setenv(name, value)

    assert main() == 1
    assert not key_file.exists()
    shown = capsys.readouterr().err
    others = LOCAL.keys() - {"USERS_MINIO_PASSWORD", "MONGO_URL"}  # which needs no password
    named = [name.removeprefix("USERS_") for name in others]
    # as they are called in .env
    for name in (*named, "MINIO_AMQP_PASSWORD", "OCR_API_TOKEN", "OCR_COLLECT"):
        assert f'"{name}: DOCRECO_ENV is production' in shown, name


def test_production_starts_with_passwords_of_its_own(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCRECO_ENV", "production")
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)

    assert main() == 0
    assert key_file.exists()


@pytest.mark.parametrize(
    "settings", [S3Settings, AmqpSettings, MongoSettings, RabbitmqManagementSettings]
)
def test_each_service_refuses_the_defaults_in_production(
    monkeypatch: pytest.MonkeyPatch, settings: type[S3Settings]
) -> None:
    settings()
    monkeypatch.setenv("DOCRECO_ENV", "production")

    with pytest.raises(ValidationError, match="replace the default password"):
        settings()


def test_refused_address_does_not_show_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "http://user:hidden@host/")

    with pytest.raises(ValidationError) as refused:
        AmqpSettings()
    assert "hidden" not in str(refused.value)


def test_password_that_would_break_a_url_is_refused() -> None:
    with pytest.raises(ValidationError, match="part of a URL"):
        UsersSettings(minio_password=SecretStr("one@two:three"))


def test_key_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "key"

    assert keep_key(path, None)
    first = path.read_text()
    assert not keep_key(path, None)
    assert path.read_text() == first
    name, _, encoded = first.partition(":")
    assert name == "docreco"
    assert len(base64.b64decode(encoded, validate=True)) == 32
    assert [each.name for each in tmp_path.iterdir()] == ["key"]


def test_given_key_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "key"

    assert keep_key(path, SecretStr(KEY))
    assert not keep_key(path, SecretStr(KEY))
    assert path.read_text() == KEY


def test_another_key_than_the_one_in_use_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    keep_key(path, None)

    with pytest.raises(KeyConflictError, match="stored objects would become unreadable"):
        keep_key(path, SecretStr(KEY))


@pytest.mark.parametrize(
    "key", ["", "name", "name:", ":" + KEY[5:], "name:AAAA", "name:not base64"]
)
def test_malformed_key_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(KeyConflictError, match="base64 of 32 bytes"):
        keep_key(tmp_path / "key", SecretStr(key))


def test_command_says_that_a_key_is_refused(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFLIGHT_KMS_KEY", "nonsense")

    assert main() == 1
    assert not key_file.exists()


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "configuration"
    (folder / "prometheus/rules").mkdir(parents=True)
    (folder / "prometheus/rules/alerts.yml").write_text("groups: []")
    for each in (folder, folder / "prometheus", folder / "prometheus/rules"):
        each.chmod(0o755)
    (folder / "prometheus/rules/alerts.yml").chmod(0o644)
    monkeypatch.setenv("PREFLIGHT_CONFIGURATION", str(folder))
    return folder


@pytest.mark.usefixtures("configuration")
def test_configuration_that_all_may_read_is_taken(key_file: Path) -> None:
    assert main() == 0
    assert key_file.exists()


@pytest.mark.parametrize(
    ("path", "mode"),
    [("prometheus/rules/alerts.yml", 0o600), ("prometheus/rules", 0o700), (".", 0o750)],
)
def test_configuration_for_its_owner_alone_is_refused(
    configuration: Path, path: str, mode: int
) -> None:
    (configuration / path).chmod(mode)

    with pytest.raises(UnreadableFilesError) as refused:
        check_readable(configuration)
    assert f"({path})" in str(refused.value)
    assert "chmod -R go+rX prometheus grafana infra/docker" in str(refused.value)


def test_unreadable_configuration_fails_the_preflight(
    key_file: Path, configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main() == 0
    key_file.unlink()
    (configuration / "prometheus/rules/alerts.yml").chmod(0o640)

    assert main() == 1
    assert not key_file.exists()
    assert "unreadable_configuration" in capsys.readouterr().err


def test_database_s_user_needs_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_USER", "root")
    monkeypatch.setenv("MONGO_PASSWORD", "")  # as compose passes on what .env does not set

    with pytest.raises(ValidationError, match="set both user and password"):
        MongoSettings()


def test_database_s_password_may_be_apart_from_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCRECO_ENV", "production")
    monkeypatch.setenv("MONGO_URL", "mongodb://mongo:27017")
    monkeypatch.setenv("MONGO_USER", "fetcher")
    monkeypatch.setenv("MONGO_PASSWORD", "own-password-1")
    assert "own-password-1" not in repr(MongoSettings())

    monkeypatch.setenv("MONGO_PASSWORD", "fetcher-local")
    with pytest.raises(ValidationError, match="replace the default password"):
        MongoSettings()
