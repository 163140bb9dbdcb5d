"""The Dockerfiles: hadolint's rules, an unprivileged user, pinned bases, a tight context."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.locate import MINIO_VERSION
from tests.support.compose import ROOT, parsed

DOCKERFILES = sorted(ROOT.glob("infra/**/Dockerfile"))
EACH = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)


def test_every_dockerfile_is_used_by_compose() -> None:
    used = {
        Path(each["build"]["context"]) / each["build"]["dockerfile"]
        for each in parsed()["services"].values()
        if "build" in each
    }

    assert used == set(DOCKERFILES)


@EACH
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, path], capture_output=True, text=True, check=False)  # noqa: S603

    assert done.returncode == 0, done.stdout + done.stderr


@EACH
def test_container_runs_as_an_unprivileged_user(path: Path) -> None:
    users = re.findall(r"^USER (.+)$", path.read_text(), re.MULTILINE)

    assert users[-1] == "10001:10001"


@EACH
def test_base_images_are_pinned_to_a_patch_version(path: Path) -> None:
    text = path.read_text()
    bases = dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", text, re.MULTILINE))

    assert bases
    assert all(re.search(r":\d+\.\d+", image) for image in bases.values())
    assert set(re.findall(r"^FROM \$\{(\w+)\}", text, re.MULTILINE)) == set(bases)


@EACH
def test_copied_files_are_readable_whatever_the_clone_s_umask(path: Path) -> None:
    last_stage = re.split(r"^FROM ", path.read_text(), flags=re.MULTILINE)[-1]
    copied = [
        f"{target}{source.rpartition('/')[2]}"
        for sources, target in re.findall(r"^COPY (?!--from)(.+) (\S+/)$", last_stage, re.MULTILINE)
        for source in sources.split()
    ]
    opened = re.findall(r"^RUN chmod a\+r (.+)$", last_stage, re.MULTILINE)

    assert copied == [each for line in opened for each in line.split()]
    assert len(re.findall(r"^COPY (?!--from)", last_stage, re.MULTILINE)) == len(opened)


def test_minio_is_the_version_that_child_processes_run() -> None:
    text = (ROOT / "infra/minio/Dockerfile").read_text()

    assert f"MINIO_VERSION={MINIO_VERSION}\n" in text
    assert parsed()["services"]["minio"]["image"].endswith(MINIO_VERSION.split("-", 2)[2])


def test_build_context_holds_no_secret_and_no_state() -> None:
    lines = (ROOT / ".dockerignore").read_text().split("\n")
    rules = [line for line in lines if line and not line.startswith("#")]

    assert rules[0] == "*"
    let_in = {line[1:] for line in rules if line.startswith("!")}
    assert not {".env", ".git", ".local", ".models", "tests"} & let_in
    copied = re.findall(
        r"^COPY (?!--from)(.+) \S+$",
        (ROOT / "infra/docker/Dockerfile").read_text(),
        re.MULTILINE,
    )
    sources = {source for line in copied for source in line.split()}
    assert all(any(each.startswith(source) for each in let_in) for source in sources)
