"""``docreco submit FOLDER``, or ``ARCHIVE``, against a real bucket."""

import asyncio
import hashlib
import json
import tarfile
import zipfile
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from services.cli.main import app
from services.common.adapters.object_store import ObjectStore, open_object_store
from services.common.domain.provenance import Provenance, from_metadata, to_metadata
from services.common.runtime.settings import S3Settings
from tests.support.web import png

pytestmark = pytest.mark.integration


@pytest.fixture
async def store(
    s3_settings: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ObjectStore]:
    """An empty bucket that the command finds through its settings."""
    monkeypatch.setenv("S3_ENDPOINT_URL", str(s3_settings.endpoint_url))
    monkeypatch.setenv("S3_ACCESS_KEY_ID", s3_settings.access_key_id)
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", s3_settings.secret_access_key.get_secret_value())
    monkeypatch.setenv("S3_BUCKET", s3_settings.bucket)
    async with open_object_store(s3_settings) as store:
        await store.client.create_bucket(Bucket=s3_settings.bucket)
        yield store


async def docreco(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments))


async def test_images_of_a_folder_are_stored_once_and_the_rest_is_reported(
    store: ObjectStore, tmp_path: Path
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.dat").write_bytes(png(1))
    (tmp_path / "b.png").write_bytes(png(2))
    (tmp_path / ".hidden.png").write_bytes(png(3))
    (tmp_path / "link.png").symlink_to(tmp_path / "b.png")

    first = await docreco("submit", str(tmp_path), "--json")
    (tmp_path / "notes.txt").write_text("no image")
    again = await docreco("submit", str(tmp_path), "--json")
    people = await docreco("submit", str(tmp_path))

    key = f"api/{hashlib.sha256(png(1)).hexdigest()}.png"
    stored = [each.key async for each in store.list()]
    assert len(stored) == 2
    assert key in stored
    info = await store.head(key)
    assert info is not None
    assert info.content_type == "image/png"
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["counts"] == {"stored": 2, "unchanged": 0, "rejected": 0}
    document = json.loads(again.stdout)
    assert document["counts"] == {"stored": 0, "unchanged": 2, "rejected": 1}
    assert {"path": "notes.txt", "outcome": "rejected", "code": "not_an_image", "key": None} in (
        document["files"]
    )
    assert again.exit_code == people.exit_code != 0
    assert "notes.txt" in people.stdout
    assert "2 unchanged, 1 rejected" in people.stdout


async def test_texts_of_a_folder_are_taken_as_those_of_an_archive(
    store: ObjectStore, tmp_path: Path
) -> None:
    folder = tmp_path / "scans"
    (folder / "lines").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png", "c.nrm.png", "d.png")):
        (folder / "lines" / name).write_bytes(png(number))
    table = "file_name,text,document\nlines\\a.png,Haus,7\nB.PNG,Maus,8\nnone.png,Laus,9\n"
    (folder / "labels.csv").write_text(table)
    (folder / "lines" / "c.gt.txt").write_text("Klaus\n")

    answer = await docreco("submit", str(folder), "--json")

    document = json.loads(answer.stdout)
    assert document["counts"] == {"stored": 4, "unchanged": 0, "rejected": 0}
    texts = {}
    for each in document["files"]:
        info = await store.head(each["key"])
        assert info is not None
        texts[each["path"]] = from_metadata(dict(info.metadata)).annotation
    assert texts == {
        "lines/a.png": "Haus",
        "lines/b.png": "Maus",
        "lines/c.nrm.png": "Klaus",
        "lines/d.png": None,
    }
    reading = document["reading"]
    assert (reading["rows"], reading["with_text"], reading["texts_without_image"]) == (4, 3, 1)
    assert reading["tables"]["labels.csv"]["ignored_columns"] == ["document"]
    assert [(note["member"], note["line"], note["code"]) for note in reading["notes"]] == [
        ("labels.csv", 4, "no_such_image")
    ]


async def test_folder_is_shown_without_being_stored(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "labels.csv").write_text("file_name,text\na.png,Haus\nb.png,Maus\n")

    dry = await docreco("submit", str(tmp_path), "--dry-run", "--json")
    strict = await docreco("submit", str(tmp_path), "--strict")

    assert dry.exit_code == 0
    assert json.loads(dry.stdout)["files"] == [{"path": "a.png", "annotation": "Haus"}]
    assert strict.exit_code == 4
    assert "1 texts found no image" in strict.stdout
    assert [each async for each in store.list()] == []


async def test_folder_without_images_is_no_success(store: ObjectStore, tmp_path: Path) -> None:
    result = await docreco("submit", str(tmp_path))

    assert result.exit_code != 0
    assert [each async for each in store.list()] == []


FILES = {
    "a.png": png(1),
    "deep/b.png": png(2),
    "page.png": b"<html>",
    "../up.png": png(3),
    "truth.csv": "file,text\na.png,Où ?\n".encode(),
}


def write_archive(path: Path) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name, content in FILES.items():
                packed.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz") as tar:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["scans.zip", "scans.tar.gz"])
async def test_images_of_an_archive_are_stored_with_their_texts_and_the_rest_is_reported(
    store: ObjectStore, tmp_path: Path, name: str
) -> None:
    path = write_archive(tmp_path / name)

    first = json.loads((await docreco("submit", str(path), "--json")).stdout)
    again = json.loads((await docreco("submit", str(path), "--json")).stdout)

    assert first["counts"] == {"stored": 2, "unchanged": 0, "rejected": 2}
    assert again["counts"] == {"stored": 0, "unchanged": 2, "rejected": 2}
    found = {each["path"]: (each["outcome"], each["code"]) for each in first["files"]}
    assert found["../up.png"] == ("rejected", "unsafe_path")
    assert found["page.png"] == ("rejected", "not_an_image")
    info = await store.head(f"api/{hashlib.sha256(png(1)).hexdigest()}.png")
    assert info is not None
    provenance = from_metadata(dict(info.metadata))
    assert (provenance.annotation, provenance.source_url) == ("Où ?", None)


async def test_text_of_an_archive_leaves_what_else_is_known_of_its_image(
    store: ObjectStore, tmp_path: Path
) -> None:
    key = f"api/{hashlib.sha256(png(1)).hexdigest()}.png"
    known = to_metadata(Provenance("http://x.test/a.png", annotation="Où?"))
    await store.write(key, png(1), content_type="image/png", metadata=known)

    found = json.loads(
        (await docreco("submit", str(write_archive(tmp_path / "a.zip")), "--json")).stdout
    )

    assert found["counts"] == {"stored": 2, "unchanged": 0, "rejected": 2}
    info = await store.head(key)
    assert info is not None
    provenance = from_metadata(dict(info.metadata))
    assert (provenance.annotation, provenance.source_url) == ("Où ?", "http://x.test/a.png")


async def test_archive_that_is_refused_says_why(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.zip").write_bytes(b"no archive")
    broken = await docreco("submit", str(tmp_path / "broken.zip"))
    monkeypatch.setenv("FETCHER_MAX_ARCHIVE_MEMBERS", "2")
    full = await docreco("submit", str(write_archive(tmp_path / "full.zip")))

    assert broken.exit_code == full.exit_code == 4
    assert "neither a zip nor a tar file" in " ".join(broken.stderr.split())
    assert "more than 2 members" in " ".join(full.stderr.split())
    assert [each async for each in store.list()] == []
