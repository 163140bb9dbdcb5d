"""PAGE XML or ALTO: a file for each page, with the places and the labels of its lines."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import groupby
from pathlib import PurePosixPath

from services.common.domain.ground_truth.transcript import TextLine, Transcript
from services.common.domain.page import PageOfLine
from services.datasets.folder import Folder
from services.datasets.manifest import Record

_UNSAFE = re.compile(r"[^\w.-]+")
_MAX_STEM_LENGTH = 60


class PageFiles:
    """``<split>/<name of the page>-<digits>.xml``; the images of the pages are not written.

    Lines wait on disk for the others of their page.

    Args:
        folder: Of the export.
        encode: Makes a file of a transcription.
    """

    def __init__(self, folder: Folder, encode: Callable[[Transcript], bytes]) -> None:
        self._folder = folder
        self._encode = encode
        self._lines = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._lines.execute("CREATE TABLE lines (split TEXT, page TEXT, place INTEGER, line TEXT)")

    def add(self, record: Record, content: bytes, extension: str) -> None:  # noqa: ARG002
        """Take one line."""
        if record.page is not None:
            row = (record.split, record.page.id, record.page.order or 0, record.model_dump_json())
            self._lines.execute("INSERT INTO lines VALUES (?, ?, ?, ?)", row)

    def finish(self) -> None:
        """Write the pages."""
        for (split, page), records in groupby(self._records(), lambda each: each[:2]):
            lines = [(record.page, record.label) for *_, record in records if record.page]
            first, _ = lines[0]
            image = PurePosixPath(first.image or page).name
            transcript = Transcript(
                "page",
                image,
                first.width or 0,
                first.height or 0,
                tuple(_to_line(*each) for each in lines),
            )
            name = f"{split}/{_stem(image)}-{sha256(page.encode()).hexdigest()[:8]}.xml"
            self._folder.write(name, self._encode(transcript))
        self._lines.close()

    def _records(self) -> Iterator[tuple[str, str, Record]]:
        for split, page, line in self._lines.execute(
            "SELECT split, page, line FROM lines ORDER BY split, page, place"
        ):
            yield split, page, Record.model_validate_json(line)


def _to_line(page: PageOfLine, label: str) -> TextLine:
    polygon = page.polygon or page.quad or ()
    name = page.name or f"line-{page.line}"
    return TextLine(name, label, polygon, page.baseline, page.region, page.tags or ())


def _stem(image: str) -> str:
    return _UNSAFE.sub("_", PurePosixPath(image).stem)[:_MAX_STEM_LENGTH] or "page"
