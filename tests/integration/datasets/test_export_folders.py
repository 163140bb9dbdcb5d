"""The folder of an export: what is left alone, interrupted, replaced, pushed or refused."""

import json
from pathlib import Path

import pytest

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.object_store import sibling
from services.datasets.export import ExportSources
from services.datasets.export import export as write_export
from services.datasets.folder import replacing
from services.datasets.manifest import ExportQuery, Format
from tests.support.datasets import Collected, answer, docreco
from tests.support.exports import check, files


async def test_foreign_folder_is_left_alone(some: Collected, tmp_path: Path) -> None:
    out = tmp_path / "set"
    out.mkdir()
    (out / "thesis.txt").write_text("precious")
    status, output = await docreco("export", "--format", "hf", "--out", out)
    assert status == 4
    assert "thesis.txt" in output
    assert (out / "thesis.txt").read_text() == "precious"
    assert some.store.bucket


async def test_foreign_folder_with_checksums_is_left_alone(
    collected: Collected, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    (out / "letters").mkdir(parents=True)
    (out / "letters" / "a.txt").write_text("precious")
    (out / "SHA256SUMS").write_text(f"{'0' * 64}  letters/a.txt\n")
    status, output = await docreco("export", "--format", "hf", "--out", out)
    assert status == 4
    assert "other files than an export" in output
    assert (out / "letters" / "a.txt").read_text() == "precious"
    assert collected.store.bucket


async def test_checkpoint_saved_inside_an_export_is_left_alone(
    some: Collected, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    await answer("export", "--format", "hf", "--out", out, "--split", "100")
    (out / "train" / "model.pt").write_text("a week of training")
    status, output = await docreco("export", "--format", "hf", "--out", out)
    assert status == 4
    assert "train/model.pt" in "".join(output.split())
    assert (out / "train" / "model.pt").read_text() == "a week of training"
    assert some.store.bucket


async def test_interrupted_export_leaves_the_last_one_and_is_repeated(
    some: Collected, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    sources = ExportSources(
        ImageRepository(some.database.images), some.store, sibling(some.store, "pages")
    )
    query = ExportQuery(format=Format.HF, bucket=some.store.bucket)

    class StoppedError(Exception):
        pass

    def stop(done: int, _: int) -> None:
        if done >= 3:
            raise StoppedError

    await write_export(query, sources, out, lambda *_: None)
    before = files(out)
    await some.add("more.png", "more")
    with pytest.raises(StoppedError):
        await write_export(query, sources, out, stop)
    assert files(out) == before
    assert (tmp_path / ".set.partial").is_dir()
    # the image that was being written at a crash, and no longer matches
    (tmp_path / ".set.partial" / "train" / "left.png").write_bytes(b"half")

    manifest = await write_export(query, sources, out, lambda *_: None)
    assert manifest.images == 9
    check(out)
    assert not (tmp_path / ".set.partial").exists()


async def test_crash_between_the_two_renames_is_mended(some: Collected, tmp_path: Path) -> None:
    out = tmp_path / "set"
    await answer("export", "--format", "hf", "--out", out)
    out.rename(tmp_path / ".set.before")
    told = await answer("export", "--format", "hf", "--out", out)
    assert told["since_last"]["left_out"] == 0
    assert not (tmp_path / ".set.before").exists()
    assert some.store.bucket


def test_folder_behind_a_link_is_replaced(tmp_path: Path) -> None:
    disk, out = tmp_path / "disk/set", tmp_path / "set"
    disk.mkdir(parents=True)
    out.symlink_to(disk)
    with replacing(out) as staging:
        (staging / "a").touch()

    assert out.is_symlink()
    assert [each.name for each in disk.iterdir()] == ["a"]
    assert [each.name for each in disk.parent.iterdir()] == ["set"]


@pytest.mark.usefixtures("some")
async def test_two_exports_into_one_folder_do_not_mix(tmp_path: Path) -> None:
    out = tmp_path / "set"
    with replacing(out):
        status, output = await docreco("export", "--format", "hf", "--out", out)
    assert status == 4
    assert "another export is writing" in output


async def test_pushed_export_is_what_the_folder_holds(some: Collected, tmp_path: Path) -> None:
    out, bucket = tmp_path / "set", f"{some.store.bucket}-out"
    target = sibling(some.store, bucket)
    await some.store.client.create_bucket(Bucket=bucket)
    try:
        for name, content in (
            ("kept.txt", b"k"),
            ("SHA256SUMS", b"0" * 64 + b"  kept.txt\n"),
            ("manifest.json", b'{"of": "another program"}'),
        ):
            await target.write(f"sets/a/{name}", content, content_type="text/plain", metadata={})
        arguments = (
            "export",
            "--format",
            "hf",
            "--out",
            out,
            "--push-to",
            f"s3://{bucket}/sets/a/",
        )
        await answer(*arguments)
        await some.set("0.png", status="removed")
        await answer(*arguments)
        there = {info.key async for info in target.list()}
        assert there == {f"sets/a/{name}" for name in files(out)} | {"sets/a/kept.txt"}
        stored = await target.read("sets/a/manifest.json", max_bytes=100_000)
        assert stored.content == (out / "manifest.json").read_bytes()
    finally:
        async for info in target.list():
            await target.delete(info.key)
        await some.store.client.delete_bucket(Bucket=bucket)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--format", "hf", "--push-to", "s3://{bucket}/x"], 4, "collected as images again"),
        (["--format", "hf", "--push-to", "https://a/b"], 4, "not an address"),
        (["--format", "hf", "--split", "a/b"], 2, "not a split"),
        (["--format", "hf", "--since", "yesterday"], 2, "no time"),
        ([], 2, "must be one of"),
        (["--from-manifest", "missing.json"], 4, "can't be read"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    collected: Collected, tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    given = [each.format(bucket=collected.store.bucket) for each in arguments]
    got, output = await docreco("export", "--out", tmp_path / "set", *given)
    assert got == status
    assert words in " ".join(output.replace("│", " ").split())
    assert not (tmp_path / "set").exists()


async def test_untrusted_manifest_names_no_file_outside(some: Collected, tmp_path: Path) -> None:
    out = tmp_path / "set"
    await answer("export", "--format", "hf", "--out", out)
    lines = (out / "manifest.jsonl").read_text().splitlines()
    evil = json.loads(lines[0]) | {"split": "../../evil"}
    (out / "manifest.jsonl").write_text(json.dumps(evil) + "\n")
    status, output = await docreco(
        "export", "--from-manifest", out / "manifest.json", "--out", tmp_path / "again"
    )
    assert status == 4
    assert "can't be read" in output
    assert not (tmp_path / "again").exists()
    assert some.store.bucket


async def test_empty_collection_gives_an_empty_data_set(
    collected: Collected, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    told = await answer("export", "--format", "paddleocr", "--out", out)
    assert told["images"] == 0
    check(out)
    assert collected.store.bucket
