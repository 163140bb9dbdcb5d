"""Find the images of rows of annotations, and write these into their documents."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from services.cli.annotation_files import InvalidRow, Row
from services.common.adapters.image_repository import ImageRepository
from services.common.domain.annotations import (
    AnnotationOutcome,
    UnacceptableAnnotationError,
    to_annotation,
)
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import PRESENT, ImageFilter, Limits
from services.common.domain.records import Annotation, How
from services.common.domain.redaction import hide_secrets
from services.common.download.urls import spellings

REJECTED = "rejected"
KEPT = 1000
"""Limit of rows listed in the result; further ones are counted."""
FEW = 20
"""Names searched by their end one by one; for more, all names that are paths are read once."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Code(StrEnum):
    """Reason of a row without effect."""

    REJECTED = "rejected"
    CONFLICT = "conflict"
    UNKNOWN_URL = "unknown_url"
    UNKNOWN_FILE = "unknown_file"
    AMBIGUOUS = "ambiguous_name"


@dataclass(frozen=True)
class RowIssue:
    """A row that was not written, and why."""

    line: int
    outcome: str
    where: str
    detail: str
    code: Code = Code.REJECTED


class _Found(NamedTuple):
    ids: list[str]
    is_by_name: bool = False
    """Whether the name must be unambiguous, unlike a URL, a key or a hash."""


@dataclass(frozen=True)
class Finder:
    """Finds the documents of a row."""

    images: ImageRepository
    bucket: str
    collection: str | None
    _paths: dict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))
    """Names that are paths with their documents, by the last part; read after ``FEW`` ends."""
    _ends: dict[str, list[str]] = field(default_factory=dict)
    """Documents by the end of a name, of those searched one by one."""

    async def find(self, where: str) -> _Found:
        """Find documents by URL, key, hash, name or the end of a name that is a path."""
        if _is_url(where):
            return _Found(await self._ids(ImageFilter(urls=frozenset(spellings(where)))))
        keys = frozenset({where, f"{self.bucket}/{where}"})
        if found := await self._ids(ImageFilter(ids=keys)):
            return _Found(found)
        if _SHA256.fullmatch(where):
            return _Found(await self._ids(ImageFilter(hashes=frozenset({where}))))
        limits = Limits(collection=self.collection)
        named = await self._ids(ImageFilter(limits, name=where, status=PRESENT))
        return _Found(named or await self._ids_by_end(where, limits), is_by_name=True)

    async def _ids_by_end(self, where: str, limits: Limits) -> list[str]:
        if where in self._ends:
            return self._ends[where]
        if len(self._ends) < FEW:
            pattern = f"/{re.escape(where)}$"
            ending = ImageFilter(limits, name_pattern=pattern, status=PRESENT)
            self._ends[where] = await self._ids(ending, limit=2)
            return self._ends[where]
        if not self._paths:
            self._paths[""] = set()
            paths = ImageFilter(limits, name_pattern="/", status=PRESENT)
            fields = {"sources.name": 1, "sources.collection": 1}
            async for document in self.images.find(paths, fields=fields):
                for name in _paths_of(document, limits):
                    self._paths[name.rpartition("/")[2]].add((name, document.id))
        known = self._paths.get(where.rpartition("/")[2], ())
        return sorted({image for path, image in known if path.endswith(f"/{where}")})

    async def _ids(self, where: ImageFilter, limit: int = 0) -> list[str]:
        found = self.images.find(
            where, sort=() if limit else [("_id", 1)], limit=limit, fields={"_id": 1}
        )
        return [document.id async for document in found]


class Writer:
    """Writes rows in order, as later ones may replace earlier ones."""

    def __init__(
        self, images: ImageRepository, finder: Finder, by: str, *, overwrite: bool, dry_run: bool
    ) -> None:
        self._images = images
        self._finder = finder
        self._by = by
        self._overwrite = overwrite
        self._dry_run = dry_run
        self.rows = 0
        self.counts: Counter[str] = Counter()
        """Images by outcome; rows without image count as unknown or rejected."""
        self.issues: list[RowIssue] = []
        self.codes: Counter[Code] = Counter()
        self.found: Counter[Code] = Counter()
        """Rows with an image, by the code of rows without one that use the same kind of name."""

    async def take(self, row: Row | InvalidRow) -> None:
        """Write the annotation of a row, or report the reason."""
        self.rows += 1
        if isinstance(row, InvalidRow):
            self._note(RowIssue(row.line, REJECTED, "", row.detail))
            return
        try:
            annotation = to_annotation(row.text, row.quality, by=self._by, how=How.GIVEN)
        except UnacceptableAnnotationError as error:
            self._note(RowIssue(row.line, REJECTED, row.where, str(error)))
            return
        is_known = False
        found = await self._finder.find(row.where)
        if found.is_by_name and len(found.ids) > 1:
            detail = "several images have this name: choose by --collection"
            self._note(RowIssue(row.line, REJECTED, row.where, detail, Code.AMBIGUOUS))
            return
        for document_id in found.ids:
            is_known = await self._write(row, document_id, annotation) or is_known
        code = Code.UNKNOWN_URL if _is_url(row.where) else Code.UNKNOWN_FILE
        if is_known:
            self.found[code] += 1
        else:
            self._note(
                RowIssue(row.line, AnnotationOutcome.UNKNOWN, row.where, "no existing image", code)
            )

    async def _write(self, row: Row, document_id: str, annotation: Annotation) -> bool:
        outcome = await self._images.annotate(
            document_id, annotation, overwrite=self._overwrite, dry_run=self._dry_run
        )
        if outcome is AnnotationOutcome.CONFLICT:
            detail = f"{document_id} has another annotation, kept without --overwrite"
            self._note(RowIssue(row.line, outcome, row.where, detail, Code.CONFLICT))
        elif outcome is not AnnotationOutcome.UNKNOWN:
            self.counts[outcome] += 1
        return outcome is not AnnotationOutcome.UNKNOWN

    def _note(self, issue: RowIssue) -> None:
        if _is_url(issue.where):
            issue = replace(issue, where=hide_secrets(issue.where))
        self.counts[issue.outcome] += 1
        self.codes[issue.code] += 1
        if len(self.issues) < KEPT:
            self.issues.append(issue)


def _is_url(where: str) -> bool:
    return where.startswith(("http://", "https://"))


def _paths_of(document: ImageDocument, limits: Limits) -> Iterator[str]:
    for source in document.sources:
        if source.name and "/" in source.name and limits.collection in {None, source.collection}:
            yield source.name
