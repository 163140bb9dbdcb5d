"""PAGE XML or ALTO: a file for each page, with the places and the labels of its lines."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import groupby
from pathlib import PurePosixPath
from typing import NamedTuple

from services.common.domain.ground_truth.transcript import TextLine, Transcript
from services.common.domain.keys import page_hash
from services.common.domain.page import PageOfLine, line_name
from services.datasets.folder import Folder
from services.datasets.manifest import ManifestRecord

_UNSAFE = re.compile(r"[^\w.-]+")
_MAX_STEM_LENGTH = 60


class PageKey(NamedTuple):
    """A page, as its lines know it."""

    id: str
    """``bucket/key``."""
    sha256: str
    """Of the bytes that they were cut from."""


class PageFiles:
    """``<split>/<name of the page>-<digits>.xml`` with the page's image beside it.

    Lines wait on disk for the others of their page.
    """

    def __init__(self, folder: Folder, encode: Callable[[Transcript], bytes]) -> None:
        self._folder = folder
        self._encode = encode
        self._lines = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._lines.execute(
            "CREATE TABLE lines (split TEXT, page TEXT, sha256 TEXT, place INTEGER, line TEXT)"
        )
        self._extensions: dict[PageKey, str] = {}

    def add(self, record: ManifestRecord, content: bytes, extension: str) -> None:  # noqa: ARG002
        """Take one line."""
        if record.page is not None:
            page = PageKey(record.page.id, page_hash(record.key) or "")
            row = (record.split, *page, record.page.order or 0, record.model_dump_json())
            self._lines.execute("INSERT INTO lines VALUES (?, ?, ?, ?, ?)", row)

    def pages(self) -> list[PageKey]:
        """Return the pages whose lines were taken."""
        found = self._lines.execute("SELECT DISTINCT page, sha256 FROM lines ORDER BY page, sha256")
        return [PageKey(*row) for row in found]

    def add_image(self, page: PageKey, content: bytes, extension: str) -> None:
        """Write the image of a page into each split that has lines of it."""
        self._extensions[page] = extension
        found = self._lines.execute(
            "SELECT split, line FROM lines WHERE page = ? AND sha256 = ?"
            " ORDER BY split, place, line",
            page,
        )
        for _, lines in groupby(found.fetchall(), lambda each: each[0]):
            name = _name(page, ManifestRecord.model_validate_json(next(lines)[1]))
            self._folder.write(f"{name}.{extension}", content)

    def finish(self) -> None:
        """Write the transcriptions."""
        for (_, *page), records in groupby(self._records(), lambda each: each[:3]):
            self._write(PageKey(*page), [record for *_, record in records])
        self._lines.close()

    def _write(self, key: PageKey, records: list[ManifestRecord]) -> None:
        lines = [(record.page, record.label) for record in records if record.page]
        name, (page, _) = _name(key, records[0]), lines[0]
        extension = self._extensions.get(key)
        transcript = Transcript(
            "page",
            f"{PurePosixPath(name).name}.{extension}" if extension else _image(page),
            page.width or 0,
            page.height or 0,
            tuple(_to_line(*each) for each in lines),
        )
        self._folder.write(f"{name}.xml", self._encode(transcript))

    def _records(self) -> Iterator[tuple[str, str, str, ManifestRecord]]:
        for *page, line in self._lines.execute(
            "SELECT split, page, sha256, line FROM lines ORDER BY split, page, sha256, place, line"
        ):
            yield *page, ManifestRecord.model_validate_json(line)


def _name(key: PageKey, record: ManifestRecord) -> str:
    """Return the path of a page's files without their suffix; ``record``: its first line."""
    digits = sha256("".join(key).encode()).hexdigest()[:8]
    return f"{record.split}/{_stem(_image(record.page) if record.page else key.id)}-{digits}"


def _image(page: PageOfLine) -> str:
    return PurePosixPath(page.image or page.id).name


def _to_line(page: PageOfLine, label: str) -> TextLine:
    return TextLine(line_name(page), label, page.place, page.baseline, page.region, page.tags or ())


def _stem(image: str) -> str:
    return _UNSAFE.sub("_", PurePosixPath(image).stem)[:_MAX_STEM_LENGTH] or "page"
