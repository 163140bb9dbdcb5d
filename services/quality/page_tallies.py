"""Tallies of the lines of pages: by their tags, their documents and their pages."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from services.common.domain.image import ImageDocument
from services.quality.tally import Tally

MOST = 5000
"""Tags, documents or pages that are counted each by itself."""
SHOWN = 30
FIELDS = ("page.id", "page.line", "page.group", "page.image", "page.tags", "sources.group")
"""Of the documents of lines."""


class Name(NamedTuple):
    """A tag, a page, or a document of several."""

    id: str
    """Of a document also a group that was given."""
    shown: str
    """Of a page its path in the archive that it came in, otherwise its key."""

    @property
    def is_given(self) -> bool:
        """Whether a document is a group that was given, and no PDF or TIFF."""
        return self.id == self.shown


Kind = Literal["tag", "document", "page"]


@dataclass
class PageTallies:
    """Counts of lines; images that are no line of a page count nowhere."""

    kinds: dict[Kind, dict[Name, Tally]] = field(
        default_factory=lambda: {"tag": {}, "document": {}, "page": {}}
    )

    def of(self, document: ImageDocument) -> Iterator[Tally]:
        """Yield what an image counts in."""
        page = document.page
        if page is None:
            return
        for tag in dict.fromkeys(page.tags or ()):
            yield from self._tally("tag", Name(tag, tag))
        given = next((each.group for each in document.sources if each.group), None)
        if (group := given or page.group) and group not in {page.id, page.image}:
            yield from self._tally("document", Name(group, given or _key(group)))
        yield from self._tally("page", Name(page.id, page.image or _key(page.id)))

    def groups(self) -> list[tuple[Kind, Sequence[tuple[Name, Tally]]]]:
        """Return the tags, documents and pages that are read worst, worst first; no empty ones."""
        return [
            (kind, sorted(tallies.items(), key=lambda each: (badness(each[1]), each[0]))[:SHOWN])
            for kind, tallies in self.kinds.items()
            if tallies
        ]

    def _tally(self, kind: Kind, name: Name) -> Iterator[Tally]:
        tallies = self.kinds[kind]
        if name in tallies or len(tallies) < MOST:
            yield tallies.setdefault(name, Tally())


def badness(tally: Tally) -> tuple[float, float]:
    """Return a sort key: the highest error rate first, then the lowest mean score."""
    return -(tally.error_rate or 0.0), tally.mean or 0.0


def _key(object_id: str) -> str:
    return object_id.partition("/")[2]
