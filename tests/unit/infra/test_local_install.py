"""Installing: only what is missing, and a command to type where we may not."""

import os
import shutil
from pathlib import Path

import pytest

from infra.local import as_root, install, locate, progress
from infra.local.cache import build_environment, cache_folder
from infra.local.errors import LocalError, ProgramError, ServerMissingError
from infra.local.install import SERVERS, Server, check_programs, install_missing
from infra.local.progress import run_and_tell


def missing() -> None:
    return None


def test_nothing_is_done_where_nothing_is_missing(tmp_path: Path) -> None:
    said: list[str] = []
    install_missing(said.append, [Server("Thing", lambda: tmp_path, "get it", "no-such-package")])
    assert said == []


def test_uninstallable_server_is_named_with_its_command() -> None:
    with pytest.raises(ServerMissingError, match=r"Thing is not installed.*: get it"):
        install_missing(print, [Server("Thing", missing, "get it")])


def test_without_root_and_sudo_the_command_to_type_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "sudo" else f"/bin/{name}")
    with pytest.raises(ServerMissingError, match=r"sudo infra/local/apt_install\.sh some-package"):
        install_missing(print, [Server("Thing", missing, "", "some-package")])


def test_without_apt_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ServerMissingError, match="no apt-get"):
        as_root.install_packages(["some-package"], print)


def test_the_script_that_the_command_names_is_there() -> None:
    root = Path(__file__).parents[3]
    for server in SERVERS:
        words = server.command.split()
        if words[0] == "sudo":
            assert os.access(root / words[1], os.X_OK)


def test_all_servers_are_installed_on_this_machine() -> None:
    assert [server.name for server in SERVERS if server.locate() is None] == []


def test_missing_server_is_an_exit_status_and_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: object) -> None:
        raise ServerMissingError("Thing", "get it")

    monkeypatch.setattr(install, "install_missing", refuse)
    assert install.main() == 1
    assert "get it" in capsys.readouterr().err


def test_check_names_what_is_missing_and_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    here = Server("Here", lambda: tmp_path, "")

    assert check_programs([here]) == 0
    assert check_programs([here, Server("Thing", missing, "get it")]) == 1
    shown = capsys.readouterr().out
    assert str(tmp_path) in shown
    assert "get it" in shown


def test_minio_on_the_path_is_preferred_to_the_built_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = locate.built_minio()
    assert built.is_relative_to(tmp_path)
    on_path = tmp_path / "bin" / "minio"
    for program in (built, on_path):
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)

    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    assert locate.locate_minio() == built
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert locate.locate_minio() == on_path


def test_cache_lies_outside_the_clone() -> None:
    assert not cache_folder().is_relative_to(Path(__file__).parents[3])


def test_failed_command_shows_the_end_of_its_output(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=r"failed with exit status 3(?s:.)*oh no") as raised:
        run_and_tell(
            ["sh", "-c", "echo oh no; exit 3"],
            what="trying",
            say=print,
            log_path=tmp_path / "logs" / "try.log",
            env=build_environment({}),
        )
    assert isinstance(raised.value, LocalError)


def test_long_command_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SAY_EVERY_SECONDS", 0.05)
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        (tmp_path / "go").touch()

    run_and_tell(
        ["sh", "-c", f"echo one; while [ ! -e {tmp_path}/go ]; do sleep 0.01; done"],
        what="trying",
        say=say,
        log_path=tmp_path / "try.log",
        env=build_environment({}),
    )
    assert said[0].startswith("  trying: 0 s")
