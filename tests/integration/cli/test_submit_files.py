"""``docreco submit`` of what is on a disk, through a fetcher and a real MinIO."""

import csv
import hashlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from infra.local.ports import pick_free_ports
from services.common.adapters.object_store import ObjectStore, sibling
from services.common.domain.ground_truth.writing import to_alto
from services.common.domain.page import PageOfLine, transcript_from_metadata
from services.common.domain.provenance import Provenance, from_metadata
from services.fetcher.sources.archives import source as archives_source
from services.fetcher.sources.archives.settings import ArchiveSettings
from services.fetcher.sources.sent import digest_of_file
from tests.support.archives import tgz_of, zip_of
from tests.support.datasets import answer, docreco
from tests.support.fetcher import Surroundings, get_json, running_fetcher, wait_done
from tests.support.transcripts import packed_page, page_of
from tests.support.web import WebSite, png


@dataclass(frozen=True)
class Pipeline:
    """A fetcher that the command line finds."""

    api: aiohttp.ClientSession
    servers: Surroundings

    @property
    def pages(self) -> ObjectStore:
        """The bucket of pages."""
        return sibling(self.servers.store, self.servers.s3.pages_bucket)

    async def provenances(self, store: ObjectStore | None = None) -> dict[str, Provenance]:
        """Return where the objects of a bucket are from, by their keys; by default of images."""
        store = store or self.servers.store
        keys = [each.key async for each in store.list()]
        heads = {key: await store.head(key) for key in keys}
        return {key: from_metadata(dict(head.metadata)) for key, head in heads.items() if head}

    async def texts(self) -> dict[str | None, str | None]:
        """Return the annotations by the names of the images."""
        return {each.name: each.annotation for each in (await self.provenances()).values()}

    async def kept(self) -> list[str]:
        """Return the keys of the files that are kept."""
        client = self.servers.store.client
        found = await client.list_objects_v2(Bucket=self.servers.s3.submitted_bucket)
        return [each["Key"] for each in found.get("Contents", [])]

    async def submit(self, file: Path, *options: str) -> dict[str, Any]:
        """Submit a file and wait for its batch."""
        return await answer("submit", file, *options, "--watch")


@pytest.fixture
async def pipeline(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Pipeline]:
    port = pick_free_ports().fetcher_port
    monkeypatch.setenv("DOCRECO_FETCHER_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("COLUMNS", "200")
    archives = ArchiveSettings(max_archive_members=60)
    async with running_fetcher(surroundings, archives=archives, port=port) as api:
        yield Pipeline(api, surroundings)


def key_of(content: bytes, extension: str = "png") -> str:
    digest = hashlib.sha256(content).hexdigest()
    return f"fetched/{digest[:2]}/{digest}.{extension}"


def noise() -> bytes:
    """Return a page that is larger than an image of a line may be."""
    content = BytesIO()
    pixels = np.random.default_rng(1).bytes(400 * 400 * 3)
    Image.frombytes("RGB", (400, 400), pixels).save(content, "PNG")
    return content.getvalue()


def parquet_of(images: list[dict[str, Any] | None], **columns: Any) -> bytes:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    content = BytesIO()
    table = pa.table({"image": pa.array(images, kind), **columns})
    pq.write_table(table, content, row_group_size=7)
    return content.getvalue()


FILES = {
    "a.png": png(1),
    "deep/é b.png": png(2),
    "page.png": b"<html>",
    "../up.png": png(3),
    "truth.csv": "file,text\na.png,Où ?\nb.png,Maus\n".encode(),
}


@pytest.mark.parametrize(("name", "pack"), [("scans.zip", zip_of), ("scans.tar.gz", tgz_of)])
async def test_archive_becomes_a_batch_with_names_and_texts(
    pipeline: Pipeline, tmp_path: Path, name: str, pack: Any
) -> None:
    (tmp_path / name).write_bytes(pack(FILES))

    told = await answer("submit", tmp_path / name, "--watch", status=1)

    submission, batch = told["submission"], told["batch"]
    assert (submission["accepted"], submission["rejected_count"]) == (3, 1)
    assert submission["rejected"][0]["code"] == "unsafe_path"
    assert (batch["kind"], batch["collection"]) == ("archive", "scans")
    assert batch["counts"]["stored"] == 2
    (failed,) = told["failed"]
    assert (failed["name"], failed["code"]) == ("page.png", "not_an_image")
    assert failed["url"] == f"submitted:{name}#page.png"
    found = await pipeline.provenances()
    assert set(found) == {key_of(png(1)), key_of(png(2))}
    first = found[key_of(png(1))]
    assert (first.kind, first.collection, first.name) == ("archive", "scans", "a.png")
    assert (first.source_url, first.batch_id) == (None, batch["batch_id"])
    assert await pipeline.texts() == {"a.png": "Où ?", "deep/é b.png": None}


async def test_same_file_in_another_collection_is_a_source_of_its_own(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    file = tmp_path / "scans.zip"
    file.write_bytes(zip_of({"a.png": png(1)}))
    outcomes = []
    for collection in ("first", "second", "second"):
        told = await pipeline.submit(file, "--collection", collection)
        outcomes.append([name for name, count in told["batch"]["counts"].items() if count])
        (found,) = (await pipeline.provenances()).values()
        assert (found.collection, found.name) == (collection, "a.png")
    assert outcomes == [["stored"], ["stored"], ["unchanged"]]


async def test_folder_is_taken_like_an_archive(pipeline: Pipeline, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    (folder / "lines").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png", "c.nrm.png", "d.dat", ".hidden.png")):
        (folder / "lines" / name).write_bytes(png(number))
    (folder / "link.png").symlink_to(folder / "lines" / "a.png")
    (folder / os.fsdecode(b"\xff.png")).write_bytes(png(7))
    table = "file_name,text,document\nlines\\a.png,Haus,7\nB.PNG,Maus,8\nnone.png,Laus,9\n"
    (folder / "labels.csv").write_text(table)
    (folder / "lines" / "c.gt.txt").write_text("Klaus\n")
    (folder / "notes.docx").write_bytes(b"x" * 1000)

    told = await answer("submit", folder, "--watch", status=1)

    assert told["batch"]["counts"]["stored"] == 5
    assert (told["batch"]["kind"], told["batch"]["collection"]) == ("folder", "scans")
    assert await pipeline.texts() == {
        "lines/a.png": "Haus",
        "lines/b.png": "Maus",
        "lines/c.nrm.png": "Klaus",
        "lines/d.dat": None,
        "\N{REPLACEMENT CHARACTER}.png": None,
    }
    assert {each.kind for each in (await pipeline.provenances()).values()} == {"folder"}
    submission = told["submission"]
    assert [each["value"] for each in submission["rejected"]] == ["notes.docx"]
    reading = submission["reading"]
    assert (reading["rows"], reading["with_text"], reading["texts_without_image"]) == (5, 3, 1)
    assert reading["tables"]["labels.csv"]["columns"]["group"] == "document"
    groups = {each.name: each.details.group for each in (await pipeline.provenances()).values()}
    assert (groups["lines/a.png"], groups["lines/b.png"]) == ("7", "8")
    assert [note["code"] for note in reading["notes"]] == ["no_such_image"]


async def test_lines_of_a_page_become_annotated_images(pipeline: Pipeline, tmp_path: Path) -> None:
    content, transcript = page_of("Où ?", None, "Maus")
    long = replace(transcript.lines[0], polygon=transcript.lines[0].polygon * 40)
    transcript = replace(transcript, lines=(long, *transcript.lines[1:]))
    files = {"page.png": content, "page.xml": to_alto(transcript), "other.png": png(1)}
    folder = tmp_path / "set"
    folder.mkdir()
    for name, each in files.items():
        (folder / name).write_bytes(each)

    told = await answer("submit", folder, "--watch", status=1)

    assert told["batch"]["counts"]["stored"] == 3
    assert [each["code"] for each in told["submission"]["rejected"]] == ["transcript_missing"]
    assert told["submission"]["reading"]["note_counts"] == {"line_without_text": 1}
    found = await pipeline.provenances()
    digest = hashlib.sha256(content).hexdigest()
    assert {key.rpartition("/")[0] for key in found} == {f"lines/{digest[:2]}/{digest}"}
    fetches = {
        each["name"]: each
        async for each in pipeline.servers.database.fetches.find({"kind": "page"})
    }
    for line in transcript.lines:
        fetch = fetches[f"page.png#{line.id}"]
        provenance = found[fetch["key"]]
        page = provenance.page or PageOfLine.model_validate(fetch["page_line"])
        assert (page.polygon, page.baseline) == (line.polygon, line.baseline)
        assert (fetch["annotation"], fetch["group"]) == (line.text, "page.png")
    assert [each.fetch_id for each in found.values() if each.page is None] == [
        fetches["page.png#l0"]["_id"]
    ]


async def test_a_line_that_is_cut_again_keeps_its_bytes(pipeline: Pipeline, tmp_path: Path) -> None:
    content, transcript = page_of("Maus")
    pack = tmp_path / "pages.zip"
    pack.write_bytes(zip_of({"page.png": content, "page.xml": to_alto(transcript)}))
    await pipeline.submit(pack)
    store = pipeline.servers.store
    (key,) = await pipeline.provenances()
    await store.write(key, b"RIFF\4\0\0\0WEBPold", content_type="image/webp", metadata={})
    line = replace(transcript.lines[0], text="Haus")
    corrected = to_alto(replace(transcript, lines=(line,)))
    pack.write_bytes(zip_of({"page.png": content, "page.xml": corrected}))

    await pipeline.submit(pack)

    ((same, provenance),) = (await pipeline.provenances()).items()
    assert (same, provenance.annotation) == (key, "Haus")
    assert (await store.read(key, max_bytes=100)).content.endswith(b"old")


async def test_pages_are_put_into_their_bucket(pipeline: Pipeline, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    (folder / "known").mkdir(parents=True)
    large, pdf = noise(), b"%PDF-1.7\n"
    (folder / "a.png").write_bytes(large)
    (folder / "a.txt").write_text("the text of all of it")
    (folder / "book.pdf").write_bytes(pdf)
    for name, content in packed_page("known/p", "Maus", "Haus").items():
        (folder / name).write_bytes(content)
    page = (folder / "known" / "p.png").read_bytes()

    told = await pipeline.submit(folder, "--pages", "--licence", "CC0")

    assert told["submission"]["reading"]["note_counts"] == {"text_of_page": 1}
    assert told["batch"]["counts"]["stored"] == 4
    given = key_of(page).replace("fetched", "given")
    found = await pipeline.provenances(pipeline.pages)
    names = {key_of(large): "a.png", key_of(pdf, "pdf"): "book.pdf", given: "known/p.png"}
    assert {key: each.name for key, each in found.items()} == names
    assert {(each.kind, each.details.licence) for each in found.values()} == {("folder", "CC0")}
    assert {each.annotation for each in found.values()} == {None}
    head = await pipeline.pages.head(given)
    assert head is not None
    truth = transcript_from_metadata(given, head.metadata)
    assert truth is not None
    assert (truth.kind, truth.name) == ("alto", "known/p.xml")
    lines = (await pipeline.provenances()).values()
    assert {each.page.id for each in lines if each.page} == {f"{pipeline.pages.bucket}/{given}"}
    batch_id = told["batch"]["batch_id"]
    items = (await get_json(pipeline.api, f"/batches/{batch_id}/items"))["items"]
    assert {each["key"] for each in items if each.get("is_page")} == names.keys() - {given}


async def test_scan_that_is_larger_than_a_line_is_a_page(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    scan = tmp_path / "scan.tif"
    Image.open(BytesIO(noise())).save(scan, compression="tiff_deflate")  # its header is at the end

    told = await pipeline.submit(scan, "--pages")

    assert told["batch"]["counts"]["stored"] == 1
    status, output = await docreco("submit", scan)
    assert (status, "an image has more than" in " ".join(output.split())) == (4, True)


async def test_list_says_which_images_are_pages(
    pipeline: Pipeline, site: WebSite, tmp_path: Path
) -> None:
    rows = [
        ("url", "is_page", "text"),
        (site.add_body("/page.png", noise()), "yes", "no line"),
        (site.add_body("/line.png", png(1)), "no", "a line"),
        (site.url("/gone.png"), "true", ""),
    ]
    with (tmp_path / "list.csv").open("w") as file:
        csv.writer(file).writerows(rows)

    told = await answer("submit", tmp_path / "list.csv", "--watch", status=1)

    assert told["submission"]["reading"]["note_counts"] == {"text_of_page": 1}
    assert list(await pipeline.provenances(pipeline.pages)) == [key_of(noise())]
    assert list((await pipeline.texts()).values()) == ["a line"]
    batch_id = told["batch"]["batch_id"]
    async with pipeline.api.get(f"/batches/{batch_id}/failed.csv") as response:
        (failed,) = csv.DictReader((await response.text()).splitlines())
    assert (failed["code"], failed["is_page"]) == ("not_found", "True")


@pytest.mark.parametrize("name", ["one.png", "without_suffix"])
async def test_one_image_is_a_batch_of_one(pipeline: Pipeline, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(png(1))

    told = await pipeline.submit(tmp_path / name, "--collection", "Ünique")

    assert told["batch"]["counts"]["stored"] == 1
    found = (await pipeline.provenances())[key_of(png(1))]
    assert (found.kind, found.collection, found.name) == ("upload", "Ünique", name)
    status, output = await docreco("watch", told["batch"]["batch_id"])
    assert (status, "1 stored" in output) == (0, True)


async def test_parquet_of_images_becomes_a_batch(pipeline: Pipeline, tmp_path: Path) -> None:
    images: list[dict[str, Any] | None] = [
        {"bytes": png(each), "path": f"{each}.png"} for each in range(1, 41)
    ]
    images += [
        {"bytes": png(41), "path": "1.png"},
        {"bytes": None, "path": "gone.png"},
        None,
        {"bytes": b"no", "path": "/no.png"},
    ]
    texts = [f"line {each}" for each in range(1, 45)]
    file = tmp_path / "train-00000.parquet"
    file.write_bytes(parquet_of(images, text=texts, writer=["ada"] * 44))

    told = await answer("submit", file, "--watch", status=1)

    assert told["batch"]["counts"]["stored"] == 41
    assert told["failure_codes"] == {"not_an_image": 1}
    submission = told["submission"]
    assert [each["code"] for each in submission["rejected"]] == ["no_image_bytes"] * 2
    used = {"image": "image", "text": "text", "group": "writer"}
    assert submission["reading"]["columns"] == used
    found = (await pipeline.provenances()).values()
    assert {each.details.group for each in found} == {"ada"}
    expected = {f"{each}.png": f"line {each}" for each in range(1, 41)}
    assert await pipeline.texts() == expected | {"row 41.png": "line 41"}
    status, output = await docreco("submit", file, "--strict")
    assert (status, "list refused (strict): 2 rows rejected" in " ".join(output.split())) == (
        4,
        True,
    )


async def test_folder_of_an_lmdb_database_becomes_a_batch(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    with lmdb.open(str(tmp_path / "words")) as opened, opened.begin(write=True) as into:
        into.put(b"num-samples", b"2")
        for number in (1, 2):
            into.put(b"image-%09d" % number, png(number))
            into.put(b"label-%09d" % number, f"word {number}".encode())

    told = await pipeline.submit(tmp_path / "words")

    assert (told["batch"]["kind"], told["batch"]["collection"]) == ("archive", "words")
    assert await pipeline.texts() == {"image-000000001": "word 1", "image-000000002": "word 2"}


async def test_options_mean_the_same_for_all(pipeline: Pipeline, tmp_path: Path) -> None:
    table = "bild;abschrift;text\na.png;Größe;x\nb.png;y;z\n".encode("cp1252")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "labels.csv").write_bytes(table)
    (folder / "a.png").write_bytes(png(1))
    (tmp_path / "set.zip").write_bytes(zip_of({"a.png": png(1), "labels.csv": table}))
    columns = ("--url-column", "bild", "--text-column", "abschrift", "--encoding", "cp1252")

    for source in (folder, tmp_path / "set.zip"):
        dry = await answer("submit", source, *columns, "--dry-run")
        status, output = await docreco("submit", source, *columns, "--strict")

        assert [(row["name"], row["annotation"]) for row in dry["rows"]] == [("a.png", "Größe")]
        assert dry["rows"][0]["url"].startswith("submitted:set.")
        assert (status, "1 text found no image" in " ".join(output.split())) == (4, True)
    assert (await pipeline.provenances(), await pipeline.kept()) == ({}, [])
    await pipeline.submit(folder, *columns)
    assert await pipeline.texts() == {"a.png": "Größe"}


async def test_what_can_not_be_read_says_why(pipeline: Pipeline, tmp_path: Path) -> None:
    many = {f"{each}.png": b"" for each in range(61)}
    for name, content, words in (
        ("broken.zip", b"no archive", "neither a zip nor a tar file"),
        ("full.zip", zip_of(many), "more than 60 members"),
        ("page.pdf", b"%PDF-1.7\n", "submit it as pages (--pages; over HTTP: pages=true)"),
        ("bad.png", b"<html>", "declared as an image"),
        ("empty.zip", zip_of({}), "the list has no valid row"),
    ):
        (tmp_path / name).write_bytes(content)
        status, output = await docreco("submit", tmp_path / name)
        assert (status, words in " ".join(output.split())) == (4, True), output
    (tmp_path / "none").mkdir()
    assert (await docreco("submit", tmp_path / "none"))[0] == 4
    assert (await pipeline.provenances(), await pipeline.kept()) == ({}, [])


async def test_failures_are_submitted_again_while_the_file_is_kept(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = b"file,text,hand\nbad.png,x,ada\n"
    (tmp_path / "a.zip").write_bytes(zip_of({"a.png": png(1), "bad.png": b"no", "t.csv": table}))
    told = await answer("submit", tmp_path / "a.zip", "--watch", status=1)
    batch_id = told["batch"]["batch_id"]

    async with pipeline.api.post(f"/batches/{batch_id}/retry?scope=all") as response:
        assert (await response.json())["retried"] == 1
    assert (await wait_done(pipeline.api, batch_id))["failure_codes"] == {"not_an_image": 1}
    async with pipeline.api.get(f"/batches/{batch_id}/failed.csv") as response:
        (tmp_path / "failed.csv").write_bytes(await response.read())
    (row,) = csv.DictReader((tmp_path / "failed.csv").read_text().splitlines())
    assert (row["url"].endswith("/a.zip#bad.png"), row["annotation"]) == (True, "x")
    again = await answer("submit", tmp_path / "failed.csv", "--watch", status=1)
    assert again["failed"][0]["code"] == "not_an_image"
    failed = pipeline.servers.database.fetches.find({"name": "bad.png"}, sort=[("_id", 1)])
    items = [(each["collection"], each["metadata"]) async for each in failed]
    assert items == [("a", {"hand": "ada"})] * 2

    (key,) = await pipeline.kept()
    client = pipeline.servers.store.client
    await client.delete_object(Bucket=pipeline.servers.s3.submitted_bucket, Key=key)
    monkeypatch.setattr(archives_source, "KEPT_SECONDS", -1.0)  # nothing of it is left on disk
    late = await answer("submit", tmp_path / "failed.csv", "--watch", status=1)
    assert late["failed"][0]["code"] == "submitted_file_gone"
    assert "submit it again" in late["failed"][0]["detail"]


async def test_submitted_file_is_opened_by_its_address_alone(pipeline: Pipeline) -> None:
    content = zip_of({"secret.png": png(1)})
    async with pipeline.api.post(
        "/batches", data=content, headers={"Content-Type": "application/zip"}
    ) as response:
        assert response.status == 202, await response.text()
        batch_id = (await response.json())["batch_id"]
    await wait_done(pipeline.api, batch_id)
    (key,) = await pipeline.kept()
    plain = hashlib.sha256(content).hexdigest()
    assert key == digest_of_file(BytesIO(content)) != plain
    shown = json.dumps(await get_json(pipeline.api, f"/batches/{batch_id}/items"))
    assert key not in shown

    guesses = [f"submitted:{each}/file#secret.png" for each in (plain, "0" * 64, f"../{key}", "")]
    body = {"items": [{"url": url} for url in guesses]}
    async with pipeline.api.post("/batches", json=body) as response:
        submitted = await response.json()

    assert [each["code"] for each in submitted["rejected"]] == ["unsupported_scheme"] * 2
    await wait_done(pipeline.api, submitted["batch_id"])
    page = await get_json(pipeline.api, f"/batches/{submitted['batch_id']}/items")
    assert [each["code"] for each in page["items"]] == ["submitted_file_gone"] * 2


async def test_same_bytes_by_archive_and_image_are_one_object(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    (tmp_path / "ä 1.zip").write_bytes(zip_of({"x/1.png": png(1)}))
    (tmp_path / "one.png").write_bytes(png(1))

    first = await pipeline.submit(tmp_path / "ä 1.zip")
    assert first["batch"]["collection"] == "ä 1"
    other = await pipeline.submit(tmp_path / "one.png")
    again = await pipeline.submit(tmp_path / "ä 1.zip")

    assert list(await pipeline.provenances()) == [key_of(png(1))]
    counts = [each["batch"]["counts"] for each in (first, other, again)]
    assert [(each["stored"], each["unchanged"]) for each in counts] == [(1, 0), (1, 0), (0, 1)]


@pytest.mark.parametrize("as_form", [True, False])
async def test_everything_is_taken_over_http_as_a_form_and_as_a_body(
    pipeline: Pipeline,
    as_form: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    for name, content_type, content in (
        ("a.zip", "application/zip", zip_of({"a.png": png(1)})),
        ("a.tgz", "application/gzip", tgz_of({"a.png": png(1)})),
        ("a.png", "image/png", png(1)),
        ("a.parquet", "application/octet-stream", parquet_of([{"bytes": png(1), "path": "a.png"}])),
    ):
        data: Any = content
        headers = {"Content-Type": content_type}
        if as_form:
            data, headers = aiohttp.FormData({"collection": "c"}), {}
            data.add_field("file", content, filename=name)
        query = {} if as_form else {"collection": "c"}
        async with pipeline.api.post("/batches", data=data, headers=headers, params=query) as got:
            assert got.status == 202, await got.text()
            submitted = await got.json()
        assert submitted["accepted"] == 1
        batch = await wait_done(pipeline.api, submitted["batch_id"])
        assert (batch["collection"], batch["counts"]["failed"]) == ("c", 0)
