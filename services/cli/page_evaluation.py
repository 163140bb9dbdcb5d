"""Find the lines of transcribed pages again, and compare them with the transcriptions."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from PIL import Image
from rich.console import Console

from app.engines.base import Engine
from app.errors import RefusedError
from app.images import decode
from app.settings import OcrSettings
from services.cli.output import Cell, Table, cell, counted
from services.cli.progress import progress_bar
from services.common.adapters.object_store import ObjectStore
from services.common.adapters.page_repository import ReadLine
from services.common.domain.errors import PermanentError
from services.common.domain.page_document import PageDocument
from services.common.domain.records import Quality
from services.common.domain.texts import number_of
from services.quality.line_finding import Finding, KnownLine, compare_lines, read_both
from services.segmenter.detection import Detector, load_detector
from services.segmenter.pictures import find_lines
from services.segmenter.settings import SegmenterSettings

SHOWN = 20
COUNTS = ("lines", "found")


@dataclass
class EvaluatedDetector:
    """Counts of pages, by their ids, and of what could not be read, by code."""

    detector: str
    pages: dict[str, Finding] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> Finding:
        """All pages together."""
        total = Finding()
        for finding in self.pages.values():
            total.add(finding)
        return total

    def document(self) -> dict[str, Any]:
        """Return everything as JSON-serialisable values."""
        return {
            "detector": self.detector,
            "all": {"pages": self.total.pages, **self.total.figures()},
            "pages": {name: finding.figures() for name, finding in self.pages.items()},
            "unread": self.unread,
        }

    def tables(self) -> list[Any]:
        """Return the figures for people, pages with the fewest usable lines first."""
        worst = sorted(self.pages.items(), key=lambda each: each[1].figures()["usable"] or 0.0)
        rows = [_row("all", self.total), *(_row(*each) for each in worst)]
        title = (
            f"{number_of(len(self.pages), 'page')} by {self.detector}, fewest usable lines first"
        )
        unread = [f"pages that can't be read: {counted(self.unread)}"] if self.unread else []
        return [Table(title, ["page", *self.total.figures()], rows, most=SHOWN), *unread]


class Evaluator:
    """Finds, and perhaps reads, the lines of pages as the segmenter and the OCR API do."""

    def __init__(
        self,
        store: ObjectStore,
        lines_of: Callable[[PageDocument], Awaitable[Sequence[ReadLine]]],
        engine: Engine | None,
    ) -> None:
        self._store = store
        self._lines_of = lines_of
        self._engine = engine
        self._settings = SegmenterSettings()

    async def evaluate(self, pages: Sequence[PageDocument], console: Console) -> EvaluatedDetector:
        """Return the counts of each page."""
        side = self._settings.longest_side
        detector = await asyncio.to_thread(load_detector, longest_side=side)
        evaluated = EvaluatedDetector(f"{detector.name} {detector.version}")
        with progress_bar(console) as bar:
            task = bar.add_task("pages", total=len(pages), words="")
            for page in pages:
                try:
                    evaluated.pages[page.id] = await self._evaluate(page, detector)
                except PermanentError as error:
                    evaluated.unread[error.code] += 1
                bar.advance(task)
        return evaluated

    async def _evaluate(self, page: PageDocument, detector: Detector) -> Finding:
        stored = await self._store.read(page.key, max_bytes=self._settings.max_object_bytes)
        lines = [line for each in await self._lines_of(page) if (line := _known(each)) is not None]
        return await asyncio.to_thread(self._compare, stored.content, lines, detector)

    def _compare(self, content: bytes, known: Sequence[KnownLine], detector: Detector) -> Finding:
        limits, max_lines = self._settings.decoding, self._settings.max_lines
        picture = find_lines(
            content, detector, limits=limits, max_lines=max_lines, may_be_blank=True
        )
        quads = [each.quad for each in picture.found]
        finding = compare_lines(known, quads)
        if self._engine is not None:
            read = partial(read_line, self._engine)
            read_both(finding, Image.fromarray(picture.pixels), known, quads, read)
        return finding


def read_line(engine: Engine, content: bytes) -> str:
    """Return what an engine reads in an image that the OCR API would read; else nothing."""
    try:
        return engine.read(decode(content, max_pixels=OcrSettings().max_image_pixels).pixels).text
    except RefusedError:
        return ""


def _known(read: ReadLine) -> KnownLine | None:
    """Return a line of a transcription; None: a person said that it is none."""
    annotation = read.image.annotation if read.image else None
    if annotation and annotation.quality == Quality.NOT_A_LINE:
        return None
    line = read.line
    return KnownLine.of(
        line.polygon or line.quad, line.baseline, annotation.text if annotation else None
    )


def _row(name: str, finding: Finding) -> list[Cell]:
    figures = finding.figures().items()
    return [cell(name), *(cell(value, form="" if of in COUNTS else ".1%") for of, value in figures)]
