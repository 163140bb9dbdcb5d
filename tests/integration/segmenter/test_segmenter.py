"""Pages become lines: objects with their provenance, and a document, whatever comes when."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from botocore.exceptions import ClientError
from PIL import Image, ImageChops
from typing_extensions import override

from services.common.adapters.collections import PAGES
from services.common.adapters.fetched_items import FetchedItems
from services.common.adapters.forgotten import Forgotten
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Database
from services.common.adapters.object_store import ObjectStore, open_object_store, sibling
from services.common.adapters.page_repository import PageRepository
from services.common.adapters.rabbitmq.retry_policy import Delivery
from services.common.adapters.repository import schema_of
from services.common.adapters.synthetic_events import (
    removed_notification,
    sequencer_at,
    stored_notification,
)
from services.common.domain.details import Details
from services.common.domain.errors import (
    ObjectStoreUnavailableError,
    PostponedError,
    TransientError,
)
from services.common.domain.keys import given_key, line_key
from services.common.domain.page import (
    GroundTruth,
    PageOfLine,
    Quad,
    Turn,
    line_id,
    transcript_to_metadata,
)
from services.common.domain.page_document import PageDocument
from services.common.domain.page_request import Cut, PageRequest, drawn_quad
from services.common.domain.provenance import Provenance, from_metadata, to_metadata
from services.common.runtime.settings import S3Settings
from services.erasure.pages import find_pages
from services.segmenter import rendered_pages
from services.segmenter.detection import DetectedLine, Pixels
from services.segmenter.line_store import LineStore
from services.segmenter.provenance import DOCUMENT_KEY, DOCUMENT_PAGES, rendered_key
from services.segmenter.settings import SegmenterSettings, TextLayerUse
from services.segmenter.text_layer import TextLayer, to_exif
from services.segmenter.worker import Worker
from tests.support.pages import draw_page, page_file

TOP: Quad = (100, 120, 700, 120, 700, 170, 100, 170)
BELOW: Quad = (100, 210, 700, 210, 700, 260, 100, 260)
LAST: Quad = (100, 300, 700, 300, 700, 350, 100, 350)


@dataclass
class ScriptedDetector:
    """Finds what it is told to."""

    quads: Sequence[Quad] = (BELOW, TOP)
    version: str = "1"
    name: str = "scripted"
    calls: int = 0

    def find(self, pixels: Pixels) -> list[DetectedLine]:
        assert pixels.size
        self.calls += 1
        return [DetectedLine(quad, 0.9) for quad in self.quads]


@dataclass
class Stage:
    store: ObjectStore
    pages_store: ObjectStore
    database: Database
    detector: ScriptedDetector = field(default_factory=ScriptedDetector)
    text_layer: TextLayerUse = "propose"

    @property
    def pages(self) -> PageRepository:
        return PageRepository(self.database.pages)

    def worker(self) -> Worker:
        async def waiting() -> int:
            return 0

        return Worker(
            store=self.pages_store,
            lines=LineStore(
                self.store, ImageRepository(self.database.images), text_layer=self.text_layer
            ),
            pages=self.pages,
            items=FetchedItems(self.database.fetches),
            forgotten=Forgotten(self.database.forgotten),
            detector=self.detector,
            waiting=waiting,
            settings=SegmenterSettings(max_object_bytes=10_000_000, max_pages=3),
        )

    async def put(self, key: str, content: bytes, provenance: Provenance | None = None) -> None:
        metadata = to_metadata(provenance or Provenance())
        await self.pages_store.write(key, content, content_type="image/png", metadata=metadata)

    async def created(self, key: str) -> Delivery:
        info = await self.pages_store.head(key)
        assert info is not None
        body = stored_notification(
            self.pages_store.bucket, info, sequencer=sequencer_at(info.stored_at)
        )
        return Delivery(body)

    async def removed(self, key: str) -> Delivery:
        await self.pages_store.delete(key)
        now = datetime.now(tz=UTC)
        body = removed_notification(
            self.pages_store.bucket, key, sequencer=sequencer_at(now), occurred_at=now
        )
        return Delivery(body)

    async def segment(
        self, key: str = "a.png", content: bytes | None = None, provenance: Provenance | None = None
    ) -> str:
        """Put a page, if one is given, and have it segmented; return the code."""
        if content is not None:
            await self.put(key, content, provenance)
        return await self.worker().handle(await self.created(key))

    async def ask(self, request: PageRequest, key: str = "a.png") -> str:
        """Have a person's request handled; return the code."""
        return await self.worker().handle(Delivery(request.within((await self.created(key)).body)))

    async def page(self, key: str = "a.png") -> PageDocument:
        return await self.pages.load(f"{self.pages_store.bucket}/{key}")

    async def lines(self) -> set[str]:
        return {info.key async for info in self.store.list("lines/")}

    async def annotate(self, key: str | None) -> None:
        info = await self.store.head(key or "")
        page = from_metadata(dict(info.metadata)).page if info else None
        await self.database.images.insert(
            {
                "_id": f"{self.store.bucket}/{key}",
                "key": key,
                "status": "predicted",
                "annotation": {"text": "x"},
                "page": page and page.model_dump(exclude_none=True),
            }
        )


@pytest.fixture
async def stage(s3_settings: S3Settings, database: Database) -> AsyncIterator[Stage]:
    async with open_object_store(s3_settings) as store:
        pages = sibling(store, s3_settings.pages_bucket)
        for bucket in (store.bucket, pages.bucket):
            await store.client.create_bucket(Bucket=bucket)
        await database.create_indexes()
        await database.require_schema(PAGES, schema_of(PAGES))
        yield Stage(store, pages, database)


async def test_page_becomes_lines_with_their_provenance(stage: Stage) -> None:
    given = Provenance(
        "http://example.test/a.png", "b1", None, datetime.now(tz=UTC), kind="url", collection="acts"
    )

    code = await stage.segment(content=page_file(), provenance=given)

    page = await stage.page()
    assert (code, page.status, page.width, page.height) == ("segmented", "segmented", 1500, 800)
    assert [line.quad for line in page.current] == [TOP, BELOW]
    assert [source.url for source in page.sources] == ["http://example.test/a.png"]
    assert await stage.lines() == {line.key for line in page.lines}
    for line in page.lines:
        stored = await stage.store.read(line.key or "", max_bytes=10**6)
        said = from_metadata(dict(stored.info.metadata))
        assert (said.kind, said.source_url, said.batch_id, said.collection) == (
            *("page", "http://example.test/a.png"),
            *("b1", "acts"),
        )
        assert said.page is not None
        assert (said.page.id, said.page.line, said.page.quad) == (page.id, line.id, line.quad)
        assert (said.page.order, said.page.group) == (line.order, page.id)
        with Image.open(BytesIO(stored.content)) as image:
            assert (image.format, image.size) == ("WEBP", (600, 50))


async def test_the_same_page_again_changes_nothing(stage: Stage) -> None:
    await stage.segment(content=page_file())
    before, lines = await stage.page(), await stage.lines()

    assert await stage.segment() == "duplicate"
    await stage.put("a.png", page_file())  # written again
    assert await stage.segment() == "duplicate"

    after = await stage.page()
    assert (after.lines, after.runs, await stage.lines()) == (before.lines, before.runs, lines)
    assert stage.detector.calls == 1


async def test_overwritten_page_keeps_only_annotated_lines(stage: Stage) -> None:
    await stage.segment(content=page_file())
    top, below = (await stage.page()).current
    await stage.annotate(below.key)
    late = await stage.created("a.png")

    assert await stage.segment(content=page_file(())) == "segmented"

    new = {line.key for line in (await stage.page()).lines}
    assert top.key not in new
    assert await stage.lines() == {*new, below.key}
    await stage.worker().handle(late)
    await stage.worker().handle(await stage.removed("a.png"))
    assert await stage.lines() == set()


async def test_overwritten_document_loses_its_pages(stage: Stage) -> None:
    files = [BytesIO(), BytesIO()]
    for file, color in zip(files, ("white", "black"), strict=True):
        page = Image.new("RGB", (400, 500), color)
        page.save(file, "PDF", save_all=True, append_images=[page])
    await stage.segment("a.pdf", files[0].getvalue())
    first = [info.key async for info in stage.pages_store.list("rendered/")]
    await stage.segment(first[0])
    await stage.annotate((await stage.page(first[0])).lines[0].key)

    await stage.segment("a.pdf", files[1].getvalue())

    left = [info.key async for info in stage.pages_store.list("rendered/")]
    assert len(left) == 3
    assert set(first) & set(left) == {first[0]}
    found = await find_pages(stage.pages_store, stage.database, f"{stage.pages_store.bucket}/a.pdf")
    assert f"{stage.pages_store.bucket}/{first[0]}" in {each.id for each in found}
    await stage.worker().handle(await stage.removed("a.pdf"))
    assert [info.key async for info in stage.pages_store.list("rendered/")] == []


async def test_page_that_another_replaces_keeps_its_lines(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is moved: its removal is handled while its copy is segmented."""
    await stage.segment(content=page_file())
    save = PageRepository.save
    removed = [await stage.removed("a.png")]

    async def save_late(self: PageRepository, *args: Any, **options: Any) -> bool:
        while removed:
            await stage.worker().handle(removed.pop())
        return await save(self, *args, **options)

    monkeypatch.setattr(PageRepository, "save", save_late)
    assert await stage.segment("b.png", page_file()) == "segmented"

    assert await stage.lines() == {line.key for line in (await stage.page("b.png")).lines}


async def test_line_annotated_meanwhile_stays(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.segment(content=page_file())
    _, below = (await stage.page()).current
    stage.detector = ScriptedDetector((TOP,), version="2")
    save = PageRepository.save

    async def annotate_first(self: PageRepository, *args: Any, **options: Any) -> bool:
        monkeypatch.undo()
        await stage.annotate(below.key)
        return await save(self, *args, **options)

    monkeypatch.setattr(PageRepository, "save", annotate_first)
    await stage.segment()

    page = await stage.page()
    assert [line.id for line in page.lines if line.state == "superseded"] == [below.id]
    assert below.key in await stage.lines()


async def test_page_forgotten_meanwhile_is_deleted(stage: Stage) -> None:
    content = page_file()

    class Forgetting(ScriptedDetector):
        @override
        def find(self, pixels: Pixels) -> list[DetectedLine]:
            asyncio.run_coroutine_threadsafe(forgotten.add(images={sha256: ()}), loop).result()
            return super().find(pixels)

    sha256, loop = hashlib.sha256(content).hexdigest(), asyncio.get_running_loop()
    forgotten = Forgotten(stage.database.forgotten)
    stage.detector = Forgetting()

    assert await stage.segment(content=content) == "forgotten"
    assert await stage.pages_store.head("a.png") is None
    assert await stage.lines() == set()


async def test_redelivery_finishes_what_a_crash_left(stage: Stage) -> None:
    """Lines are stored, their page is not."""
    await stage.segment(content=page_file())
    lines = await stage.lines()
    await stage.database.pages.delete_many({})

    assert await stage.segment() == "segmented"
    assert await stage.lines() == lines


async def test_full_disk_leaves_a_page_that_is_cut_later(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.put("a.png", page_file())
    put = stage.store.client.put_object
    full = ClientError({"Error": {"Code": "XMinioStorageFull"}}, "PutObject")
    answers: list[Exception | None] = [None, full]

    async def put_until_it_is_full(**given: Any) -> Any:
        if error := answers.pop(0):
            raise error
        return await put(**given)

    monkeypatch.setattr(stage.store.client, "put_object", put_until_it_is_full)
    with pytest.raises(ObjectStoreUnavailableError):
        await stage.segment()
    assert (await stage.page()).status is None
    monkeypatch.undo()

    assert await stage.segment() == "segmented"
    page = await stage.page()
    assert await stage.lines() == {line.key for line in page.lines}
    assert len(page.lines) == 2


async def test_newer_detector_keeps_what_people_have_judged(stage: Stage) -> None:
    await stage.segment(content=page_file())
    top, below = (await stage.page()).current
    await stage.annotate(below.key)
    stage.detector = ScriptedDetector((TOP, LAST), version="2")

    assert await stage.segment() == "segmented"

    page = await stage.page()
    assert [line.quad for line in page.current] == [TOP, LAST]
    assert page.current[0].key == top.key
    assert [line.id for line in page.lines if line.state == "superseded"] == [below.id]
    assert await stage.lines() == {line.key for line in page.lines}
    assert [run.version for run in page.runs] == ["1", "2"]


async def test_newer_detector_replaces_lines_without_annotation(stage: Stage) -> None:
    await stage.segment(content=page_file())
    stage.detector = ScriptedDetector((TOP, LAST), version="2")

    await stage.segment()

    page = await stage.page()
    assert [line.quad for line in page.lines] == [TOP, LAST]
    assert await stage.lines() == {line.key for line in page.lines}


async def test_drawn_line_replaces_the_one_it_is_of(stage: Stage) -> None:
    await stage.segment(content=page_file())
    top, below = (await stage.page()).current
    quad = drawn_quad([90, 110, 720, 110, 720, 180, 90, 180], 1500, 800)
    cut = Cut(quad=quad, line=top.id, by="Ada é", at=datetime.now(tz=UTC))

    assert await stage.ask(PageRequest(cut=cut)) == "cut"

    (new, _) = (page := await stage.page()).current
    assert (new.by, new.quad, new.replaces) == ("Ada é", quad, (top.id,))
    assert [(line.id, line.key, line.superseded_by) for line in page.lines[2:]] == [
        (top.id, None, (new.id,))
    ]
    assert await stage.lines() == {new.key, below.key}
    stored = await stage.store.read(new.key or "", max_bytes=10**6)
    said = from_metadata(dict(stored.info.metadata)).page
    assert said is not None
    assert (said.by, said.replaces, said.quad) == ("Ada é", (top.id,), quad)
    with Image.open(BytesIO(stored.content)) as image:
        assert image.size == (630, 70)
    # Again, by another person of the same line, and a run of another version
    assert await stage.ask(PageRequest(cut=cut)) == "cut"
    others = cut.model_copy(update={"by": "bob", "quad": BELOW})
    assert await stage.ask(PageRequest(cut=others)) == "stale"
    assert (await stage.page()).lines == page.lines
    stage.detector = ScriptedDetector(version="2")
    assert await stage.segment() == "segmented"
    assert set((await stage.page()).lines) == set(page.lines)
    assert await stage.lines() == {new.key, below.key}


async def test_drawn_line_spares_one_that_is_annotated_meanwhile(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.segment(content=page_file())
    top, _ = (await stage.page()).current
    cut = Cut(quad=LAST, line=top.id, by="ada", at=datetime.now(tz=UTC))
    save = PageRepository.save

    async def annotate_first(self: PageRepository, *args: Any, **options: Any) -> bool:
        monkeypatch.undo()
        await stage.annotate(top.key)
        return await save(self, *args, **options)

    monkeypatch.setattr(PageRepository, "save", annotate_first)
    await stage.ask(PageRequest(cut=cut))

    superseded = [line for line in (await stage.page()).lines if line.state == "superseded"]
    assert [(line.id, line.key) for line in superseded] == [(top.id, top.key)]
    assert top.key in await stage.lines()


@pytest.mark.parametrize("code", ["stale", "forgotten"])
async def test_line_drawn_too_late_leaves_no_image(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Its page is removed or forgotten before the image is written."""
    await stage.segment(content=page_file())
    cut = Cut(quad=LAST, by="ada", at=datetime.now(tz=UTC))
    sha256, write = (await stage.page()).sha256 or "", LineStore.write

    async def write_late(self: LineStore, *args: Any) -> None:
        monkeypatch.undo()
        if code == "forgotten":
            await Forgotten(stage.database.forgotten).add(images={sha256: ()})
        else:
            await stage.worker().handle(await stage.removed("a.png"))
        await write(self, *args)

    body = PageRequest(cut=cut).within((await stage.created("a.png")).body)
    monkeypatch.setattr(LineStore, "write", write_late)

    assert await stage.worker().handle(Delivery(body)) == code
    assert line_key(sha256, line_id(LAST, 1500, 800)) not in await stage.lines()


@pytest.mark.parametrize("turn", [90, 180, 270])
async def test_turned_page_is_cut_as_it_is_read(stage: Stage, turn: Turn) -> None:
    upright, lying = draw_page(), BytesIO()
    upright.rotate(turn, expand=True).save(lying, "PNG")
    await stage.segment(content=lying.getvalue())

    assert await stage.ask(PageRequest(turn=turn)) == "segmented"
    assert await stage.ask(PageRequest(turn=turn)) == "duplicate"

    page = await stage.page()
    assert (page.turn, page.runs[-1].turn, page.width) == (turn, turn, 1500 if turn == 180 else 800)
    assert [line.marks for line in page.lines] == [(), ()]
    stored = await stage.store.read(page.current[0].key or "", max_bytes=10**6)
    with Image.open(BytesIO(stored.content)) as line:
        expected = upright.crop((*TOP[:2], *TOP[4:6]))
        assert ImageChops.difference(line.convert("RGB"), expected).getbbox() is None
    await stage.segment(content=page_file(()))
    assert (await stage.page()).turn == 0


async def test_last_turn_counts_however_it_arrives(stage: Stage) -> None:
    await stage.segment(content=page_file())
    now = datetime.now(tz=UTC)
    first, last = PageRequest(turn=90, at=now), PageRequest(turn=0, at=now + timedelta(seconds=1))

    assert await stage.ask(last) == "duplicate"  # it is so already
    assert await stage.ask(first) == "duplicate"

    assert (await stage.page()).turn == 0


@pytest.mark.parametrize("found", [0, 1001])
async def test_page_turned_in_vain_is_turned_back(stage: Stage, found: int) -> None:
    """Nothing is found on it, or too much; where a person drew a line, it stays."""
    await stage.segment(content=page_file())
    top, _ = (await stage.page()).current
    if found:
        cut = Cut(quad=LAST, line=top.id, by="ada", at=datetime.now(tz=UTC))
        assert await stage.ask(PageRequest(cut=cut)) == "cut"
    before, stage.detector.quads = (await stage.page()).lines, (TOP,) * found

    assert await stage.ask(PageRequest(turn=180)) == "rejected"
    stage.detector.quads = (BELOW, TOP)
    assert await stage.ask(PageRequest(turn=0)) == "segmented"

    after = await stage.page()
    assert (set(after.lines), after.error) == (set(before), None)
    assert await stage.lines() == {line.key for line in before if line.key}
    stage.detector.quads = ()  # a drawn line is of the bytes that it was drawn on
    assert await stage.segment(content=page_file(())) == "rejected"
    assert (await stage.page()).lines == ()


async def test_page_turned_meanwhile_is_segmented_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.segment(content=page_file())
    before, load = await stage.page(), PageRepository.load
    stage.detector = ScriptedDetector((TOP, LAST), version="2")

    async def load_before_the_turn(self: PageRepository, name: str) -> PageDocument:
        monkeypatch.undo()
        page = await load(self, name)
        await self.save(page, page.having(turn=180))
        return page

    monkeypatch.setattr(PageRepository, "load", load_before_the_turn)
    with pytest.raises(TransientError):
        await stage.segment()

    assert (await stage.page()).lines == before.lines
    assert await stage.segment() == "segmented"
    assert (await stage.page()).runs[-1].turn == 180


async def test_removed_page_takes_its_lines_along(stage: Stage) -> None:
    said = Details(group="g", metadata={"title": "its text"})
    provenance = Provenance("http://a.test/", "b", kind="url", details=said)
    await stage.segment(content=page_file(), provenance=provenance)
    late = await stage.created("a.png")

    assert await stage.worker().handle(await stage.removed("a.png")) == "removed"

    page = await stage.page()
    assert (page.status, page.lines, await stage.lines()) == ("removed", (), set())
    assert await stage.worker().handle(late) == "stale"  # an event that comes too late
    assert await stage.lines() == set()
    (source,) = (await stage.page()).sources
    assert (source.url, source.group, source.metadata) == ("http://a.test/", None, None)
    assert page.group is None


async def test_lines_stay_while_another_page_has_the_same_bytes(stage: Stage) -> None:
    for key in ("a.png", "b.png"):
        await stage.segment(key, page_file())
    lines = await stage.lines()

    await stage.worker().handle(await stage.removed("a.png"))
    assert await stage.lines() == lines
    await stage.worker().handle(await stage.removed("b.png"))
    assert await stage.lines() == set()


@pytest.mark.parametrize("form", ["PDF", "TIFF"])
async def test_document_is_rendered_into_pages_of_their_own(stage: Stage, form: str) -> None:
    file = BytesIO()
    page = Image.new("RGB", (800, 1000), "white")
    page.save(file, form, save_all=True, append_images=[page.rotate(90)], resolution=200)
    given = Provenance(kind="console", name="book", details=Details(group="Ada"))

    assert await stage.segment("scans/book", file.getvalue(), given) == "rendered"

    document = await stage.page("scans/book")
    assert (document.status, document.rendered, document.lines) == ("segmented", 2, ())
    keys = [info.key async for info in stage.pages_store.list("rendered/")]
    assert keys == [f"rendered/{document.sha256}/000{number}.webp" for number in (1, 2)]
    assert await stage.segment("scans/book") == "duplicate"

    assert await stage.segment(keys[1]) == "segmented"
    second = await stage.page(keys[1])
    assert second.document is not None
    assert (second.document.key, second.document.number, second.document.of) == ("scans/book", 2, 2)
    assert second.group == "Ada"
    assert [source.name for source in second.sources] == ["book"]

    await stage.worker().handle(await stage.removed("scans/book"))
    assert [info.key async for info in stage.pages_store.list("rendered/")] == []


@pytest.mark.parametrize("erased", ["nothing", "page", "document"])
async def test_long_document_is_rendered_a_few_pages_at_a_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, erased: str
) -> None:
    """Pages that wait come in between, and one of it, or all, may be erased there."""
    for name, pages in (("FIRST_PAGES", 2), ("FURTHER_PAGES", 1)):
        monkeypatch.setattr(rendered_pages, name, pages)
    file, page = BytesIO(), Image.new("RGB", (400, 500), "white")
    page.save(file, "PDF", save_all=True, append_images=[page] * 2)

    with pytest.raises(PostponedError):
        await stage.segment("a.pdf", file.getvalue())

    document = await stage.page("a.pdf")
    assert (document.rendered, document.unrendered) == (3, 1)
    keys = [rendered_key(str(document.sha256), number) for number in (1, 2, 3)]
    assert [info.key async for info in stage.pages_store.list("rendered/")] == keys[:2]
    if erased == "page":
        await stage.pages_store.delete(keys[1])
    if erased == "document":
        await stage.worker().handle(await stage.removed("a.pdf"))
    else:
        assert await stage.segment("a.pdf") == "rendered"
        assert (await stage.page("a.pdf")).unrendered is None
    left = {"nothing": keys, "page": [keys[0], keys[2]], "document": []}
    assert [info.key async for info in stage.pages_store.list("rendered/")] == left[erased]


@pytest.mark.parametrize("use", ["propose", "accept", "ignore"])
async def test_text_of_a_pdf_comes_with_its_lines(stage: Stage, use: TextLayerUse) -> None:
    picture = BytesIO()
    text, quad = "Liebe \u00c4nne", TOP
    middle = [400, 145] * len(text)
    exif = to_exif(TextLayer(text, middle, hidden=3))
    draw_page().save(picture, "WEBP", lossless=True, exif=exif)
    key = rendered_key("ab" * 32, 1)
    metadata = {DOCUMENT_KEY: "a.pdf", DOCUMENT_PAGES: "1"}
    await stage.pages_store.write(
        key, picture.getvalue(), content_type="image/webp", metadata=metadata
    )
    stage.text_layer = use

    await stage.segment(key)

    page = await stage.page(key)
    assert page.text_layer is not None
    assert (page.text_layer.proposed, page.text_layer.hidden) == (1, 3)
    [line] = [line for line in page.lines if line.quad == quad]
    info = await stage.store.head(line.key or "")
    assert info is not None
    said = from_metadata(dict(info.metadata))
    assert said.page is not None
    assert said.page.text_layer == (None if use == "ignore" else text)
    assert said.annotation == (text if use == "accept" else None)
    await stage.segment("upload.webp", picture.getvalue())  # no page of a PDF, whatever it says
    assert (await stage.page("upload.webp")).text_layer is None


async def test_tiff_of_one_page_is_an_image(stage: Stage) -> None:
    assert await stage.segment("a.tif", page_file(form="TIFF")) == "segmented"


async def test_pdf_of_one_page_is_rendered_after_other_bytes(stage: Stage) -> None:
    file = BytesIO()
    Image.new("RGB", (400, 500)).save(file, "PDF")

    assert await stage.segment("a.pdf", b"junk\n" + file.getvalue()) == "rendered"


async def test_transcribed_page_is_known_but_not_cut(stage: Stage) -> None:
    content = page_file()
    sha256 = hashlib.sha256(content).hexdigest()
    given = given_key(sha256, "png")
    truth = GroundTruth(kind="alto", sha256="0" * 64, name="é.xml")
    details = Details(group="book", licence="CC0")
    provenance = Provenance(kind="archive", name="é.png", details=details, by="ada")
    metadata = to_metadata(provenance, transcript_to_metadata(truth))
    await stage.pages_store.write(given, content, content_type="image/png", metadata=metadata)
    line = PageOfLine(id=f"{stage.pages_store.bucket}/{given}", line="0" * 16)
    theirs = line_key(sha256, line.line)
    of_line = to_metadata(Provenance(kind="page", page=line))
    await stage.store.write(theirs, b"a line", content_type="image/webp", metadata=of_line)

    assert await stage.segment(given) == "transcribed"
    assert await stage.segment(given) == "duplicate"

    page = await stage.page(given)
    assert (page.status, page.width, page.height, page.group) == ("segmented", 1500, 800, "book")
    known = truth.having(licence="CC0", by="ada")
    assert page.ground_truth == known
    assert stage.detector.calls == 0
    # Of the same bytes without a transcription only the lines that were found are deleted
    await stage.segment("same.png", content)
    await stage.worker().handle(await stage.removed("same.png"))
    await stage.worker().handle(await stage.removed(given))
    assert await stage.lines() == {theirs}
    assert (await stage.page(given)).ground_truth is None


async def test_forgotten_page_is_deleted_again(stage: Stage) -> None:
    await stage.segment(content=page_file())
    sha256 = (await stage.page()).sha256 or ""
    await Forgotten(stage.database.forgotten).add(images={sha256: ()})

    assert await stage.segment("b.png", page_file()) == "forgotten"
    assert await stage.pages_store.head("b.png") is None
