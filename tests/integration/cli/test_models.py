"""``docreco models``: pulled from a hub that the test serves, listed from a folder."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from infra.local.ports import pick_free_ports
from services.common.domain.trained_models import RECORD

if not os.environ.get("CI"):
    pytest.importorskip("huggingface_hub", reason="comes with the extra trocr")

COMMIT = "1234567890abcdef1234567890abcdef12345678"
WHOLE = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "sentencepiece.bpe.model": b"tokens",
    "vocab.txt": b"a\nb\n",
    "pytorch_model.bin": b"pickled",
    "README.md": b"# A model",
}


class Hub:
    """Answers as the Hugging Face hub does where ``snapshot_download`` asks."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.commit = COMMIT
        self.refused: set[str] = set()
        self.sent: list[str] = []
        self.revisions: set[str] = set()

    async def model(self, request: web.Request) -> web.Response:
        """List the files."""
        if request.match_info["name"] != "tiny":
            headers = {"X-Error-Code": "RepoNotFound"}
            return web.json_response({"error": "no"}, status=404, headers=headers)
        self.revisions.add(request.match_info["revision"])
        if "tree" in request.path:
            entries = [
                {"type": "file", "path": name, "size": len(body), "oid": _etag(body)}
                for name, body in self.files.items()
            ]
            return web.json_response(entries)
        siblings = [{"rfilename": name} for name in self.files]
        return web.json_response({"id": "team/tiny", "sha": self.commit, "siblings": siblings})

    async def file(self, request: web.Request) -> web.Response:
        """Send one file."""
        name = request.match_info["file"]
        if name in self.refused:
            return web.Response(status=403)
        if request.method == "GET":
            self.sent.append(name)
        body = self.files[name]
        headers = {"X-Repo-Commit": self.commit, "ETag": f'"{_etag(body)}"'}
        return web.Response(body=body, headers=headers)


def _etag(body: bytes) -> str:
    return sha256(body).hexdigest()[:40]


class Docreco:
    """Runs the command in a process of its own: the hub's address is read when it is imported."""

    def __init__(self, models: Path, endpoint: str) -> None:
        self.environment = {
            **os.environ,
            "OCR_MODELS": str(models),
            "HF_ENDPOINT": endpoint,
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "COLUMNS": "200",
        }

    async def __call__(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.cli.main", "models", *arguments),
            env={**self.environment, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()


@pytest.fixture
async def hub() -> AsyncIterator[tuple[Hub, str]]:
    hub = Hub(dict(WHOLE))
    application = web.Application()
    for form in ("revision", "tree"):
        application.router.add_get(f"/api/models/team/{{name}}/{form}/{{revision}}", hub.model)
    application.router.add_get("/team/tiny/resolve/{revision}/{file}", hub.file)
    async with TestServer(application) as server:
        yield hub, str(server.make_url("")).rstrip("/")


@pytest.fixture
def docreco(hub: tuple[Hub, str], tmp_path: Path) -> Docreco:
    return Docreco(tmp_path / "models", hub[1])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_model_is_pulled_without_code_and_listed(
    hub: tuple[Hub, str], docreco: Docreco, tmp_path: Path
) -> None:
    status, out, err = await docreco("pull", "team/tiny", "--revision", "v1", "--json")

    folder = tmp_path / "models" / "team" / "tiny"
    assert status == 0, err
    assert names(folder) == {
        "config.json",
        "model.safetensors",
        "sentencepiece.bpe.model",
        "vocab.txt",
    }
    assert "v1" in hub[0].revisions
    assert not {"pytorch_model.bin", "README.md"} & set(hub[0].sent)
    pulled = json.loads(out)
    assert pulled["name"] == "team/tiny"
    assert pulled["model_version"].startswith("team/tiny@")

    status, out, err = await docreco("list", "--json")
    assert (status, json.loads(out)["models"]) == (0, [pulled]), err
    status, out, _ = await docreco("list")
    assert pulled["model_version"] in out


async def test_model_that_was_trained_here_is_not_replaced(
    docreco: Docreco, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "team" / "tiny"
    folder.mkdir(parents=True)
    (folder / RECORD).write_text("{}")

    status, _, err = await docreco("pull", "team/tiny")

    assert (status, names(folder)) == (4, {RECORD}), err
    assert "was trained here" in err


async def test_refused_model_leaves_the_one_that_is_there(
    hub: tuple[Hub, str], docreco: Docreco
) -> None:
    await docreco("pull", "team/tiny")
    _, before, _ = await docreco("list", "--json")
    del hub[0].files["model.safetensors"]
    hub[0].files["config.json"] = b'{"new": 1}'

    status, _, err = await docreco("pull", "team/tiny")

    assert status == 4
    assert "no weights as safetensors" in err
    assert (await docreco("list", "--json"))[1] == before


@pytest.mark.parametrize(
    ("name", "environment", "expected", "words"),
    [
        ("team/other", {}, 4, "the hub refused team/other at main (404)"),
        ("no such name", {}, 4, "is not a valid model name"),
        ("team/tiny", {"HF_HUB_OFFLINE": "1"}, 3, "the hub does not answer"),
    ],
)
async def test_what_is_in_the_way_is_told(
    docreco: Docreco, name: str, environment: dict[str, str], expected: int, words: str
) -> None:
    status, _, err = await docreco("pull", name, **environment)

    assert status == expected, err
    assert words in err
    assert "Traceback" not in err


async def test_unreachable_hub_is_told_at_once_and_leaves_no_model(
    docreco: Docreco, tmp_path: Path
) -> None:
    half = tmp_path / "models" / ".pulled" / "team" / "tiny"
    half.mkdir(parents=True)
    for name in ("config.json", "model-00001-of-00002.safetensors"):
        (half / name).write_bytes(b"{}")
    nowhere = f"http://127.0.0.1:{pick_free_ports().ocr_api_port}"

    status, _, err = await docreco("pull", "team/tiny", HF_ENDPOINT=nowhere)

    assert status == 3, err
    assert "the hub does not answer: connection refused" in err
    assert "HF_ENDPOINT" in err
    assert "Retrying" not in err
    assert not (tmp_path / "models" / "team").exists()


async def test_what_is_left_of_another_commit_is_not_mixed_in(
    hub: tuple[Hub, str], docreco: Docreco
) -> None:
    hub[0].refused = {"vocab.txt"}
    status, _, err = await docreco("pull", "team/tiny")
    assert status == 4, err
    assert "model.safetensors" in hub[0].sent
    hub[0].refused, hub[0].commit = set(), COMMIT[::-1]
    del hub[0].files["model.safetensors"]

    status, _, err = await docreco("pull", "team/tiny")

    assert status == 4, err
    assert "no weights as safetensors" in err


async def test_empty_folder_says_how_to_fill_it(docreco: Docreco) -> None:
    status, out, _ = await docreco("list")

    assert status == 0
    assert "docreco models pull" in out
