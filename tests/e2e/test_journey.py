"""A data scientist's afternoon: images come in five ways, are annotated, leave, and come back."""

import csv
from collections import defaultdict
from collections.abc import Mapping
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any

from aiohttp import FormData
from pyarrow import parquet

from services.common.adapters.mongo import Document
from tests.support.archives import zip_of
from tests.support.images import line_image
from tests.support.pipeline import Client, Pipeline
from tests.support.review import open_person
from tests.support.terminal import Terminal
from tests.support.web import WebSite

DOCUMENTS = 12
SIZES = {"archive": 60, "folder": 36, "list": 24, "page": 10, "console": 10}
"""Images by collection; each comes in another way."""


def lines(collection: str) -> dict[str, str]:
    """Return the texts of a collection's lines by their file names."""
    return {
        f"{collection}-{number:03}.png": f"{collection} line {number}"
        for number in range(SIZES[collection])
    }


def table(texts: Mapping[str, str], column: str = "file_name", **documents: int) -> str:
    """Write texts, and the documents that the lines are of, as CSV."""
    written = StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow([column, "text", *documents])
    for number, (name, text) in enumerate(texts.items()):
        rows.writerow([name, text, *(f"d{number % each:02}" for each in documents.values())])
    return written.getvalue()


LABELS = table({**lines("archive"), **lines("folder")}, document=DOCUMENTS, part=3)


async def test_collections_keep_names_texts_and_documents_together(
    client: Client, pipeline: Pipeline, site: WebSite, tmp_path: Path
) -> None:
    terminal = Terminal(pipeline, tmp_path)

    await submit_archive(terminal)
    await submit_folder(terminal)
    urls = await submit_list(terminal, site)
    await choose_in_browser(pipeline)
    await put_in_console(client)
    for collection, size in SIZES.items():
        await client.count_reaches(size, read_in(collection))
        sources = [source_of(each, collection) for each in await found(client, collection)]
        names = {PurePosixPath(each.get("name") or each["url"]).name for each in sources}
        assert names == set(lines(collection))

    annotated = {"annotation.quality": "ok"}
    for collection in ("archive", "folder"):  # by the table that came beside the images
        of_table = {**read_in(collection), **annotated}
        assert await client.database.images.count(of_table) == SIZES[collection]
    by_name = {**lines("page"), **lines("console")}
    (tmp_path / "labels.csv").write_text(table(by_name))
    (tmp_path / "urls.csv").write_text(table(urls, column="url"))
    for file, size in (("labels.csv", len(by_name)), ("urls.csv", len(urls))):
        written = await terminal.type(f"poetry run docreco annotate {file} --by ada")
        assert written["written"] == size

    exported = await export(terminal, "archive", "first")
    assert {each["text"] for each in exported} == set(lines("archive").values())
    assert {PurePosixPath(each["name"]).name for each in exported} == set(lines("archive"))
    assert {each["metadata"] for each in exported} == {f'{{"part": "d{n:02}"}}' for n in range(3)}
    splits = defaultdict(set)
    for each in exported:
        splits[each["group"]].add(each["split"])
    assert len(splits) == DOCUMENTS
    assert {len(each) for each in splits.values()} == {1}

    await terminal.type("poetry run docreco submit first --collection again --watch")
    await client.count_reaches(SIZES["archive"], read_in("again"))
    assert same(await export(terminal, "again", "second")) == same(exported)


async def submit_archive(terminal: Terminal) -> None:
    members = {f"lines/{name}": line_image(text) for name, text in lines("archive").items()}
    packed = zip_of({"lines/labels.csv": LABELS.encode(), **members})
    (terminal.folder / "lines.zip").write_bytes(packed)
    await terminal.type("poetry run docreco submit lines.zip --collection archive --watch")


async def submit_folder(terminal: Terminal) -> None:
    folder = terminal.folder / "folder"
    folder.mkdir()
    (folder / "labels.csv").write_text(LABELS)
    for name, text in lines("folder").items():
        (folder / name).write_bytes(line_image(text))
    await terminal.type("poetry run docreco submit folder --watch")


async def submit_list(terminal: Terminal, site: WebSite) -> dict[str, str]:
    """Submit addresses without texts; return the texts that are right by address."""
    urls = {
        site.add_body(f"/{name}", line_image(text)): text for name, text in lines("list").items()
    }
    (terminal.folder / "list.txt").write_text("\n".join(urls))
    await terminal.type("poetry run docreco submit list.txt --collection list --watch")
    return urls


async def choose_in_browser(pipeline: Pipeline) -> None:
    async with open_person(pipeline.review_url) as person:
        await person.see("/batches")
        form = FormData({"token": person.token, "collection": "page"})
        for name, text in lines("page").items():
            form.add_field("file", line_image(text), filename=name, content_type="image/png")
        async with person.client.post("/submit", data=form) as response:
            assert response.status == 200, await response.text()


async def put_in_console(client: Client) -> None:
    """Write as the store's console does: nothing but the key says what an image is."""
    for name, text in lines("console").items():
        content = line_image(text)
        key = f"console/{name}"
        await client.store.write(key, content, content_type="image/png", metadata={})


def read_in(collection: str) -> Document:
    """Return the condition of a collection's images that were read."""
    return {"sources.collection": collection, "status": "predicted"}


async def found(client: Client, collection: str) -> list[Document]:
    return [each async for each in client.database.images.find(read_in(collection))]


def source_of(document: Document, collection: str) -> Document:
    [source] = [each for each in document["sources"] if each.get("collection") == collection]
    return dict(source)


async def export(terminal: Terminal, collection: str, folder: str) -> list[dict[str, Any]]:
    """Export a collection by document; return the images with the part that each is in."""
    options = f"--format hf --collection {collection} --group-by group --only-annotated"
    await terminal.type(f"poetry run docreco export --out {folder} {options}")
    return [
        {**row, "split": file.parent.name}
        for file in sorted((terminal.folder / folder).rglob("metadata.parquet"))
        for row in parquet.read_table(file).to_pylist()
    ]


def same(images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what has to come back: all but where, when and by which batch it came."""
    kept = ("file_name", "text", "name", "group", "split", "metadata", "licence")
    return sorted(
        ({name: each.get(name) for name in kept} for each in images),
        key=lambda each: str(each["file_name"]),
    )
