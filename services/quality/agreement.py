"""Agreement of people who read the same images, each without the text of the other."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.common.adapters.image_repository import ImageRepository
from services.common.domain.accuracy import similarity
from services.common.domain.annotations import collapse, is_same
from services.common.domain.double_reading import READ_TWICE, DoubleReading, DoubleState
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import NO_LIMITS, ImageFilter, Limits
from services.quality.estimates import Estimate, share

_FIELDS = {"double_reading": 1, "sources.collection": 1}


@dataclass(slots=True)
class Agreement:
    """Images that two people have read."""

    images: int = 0
    exact: int = 0
    """Read alike, in the normal form of texts."""
    characters: int = 0
    """Of the longer text of each image."""
    edits: int = 0
    undecided: int = 0

    @property
    def exact_estimate(self) -> Estimate | None:
        """Share that was read alike, with its interval."""
        return share(self.exact, self.images)

    @property
    def exact_share(self) -> float | None:
        """Share that was read alike; None without images."""
        return self.exact / self.images if self.images else None

    @property
    def character_agreement(self) -> float | None:
        """1 - edits / characters of the longer texts; None without a text."""
        return 1 - self.edits / self.characters if self.characters else None

    def document(self) -> dict[str, Any]:
        """Return it as JSON-serialisable values."""
        return {
            "read_twice": self.images,
            "same_text": self.exact_share,
            "character_agreement": self.character_agreement,
            "to_decide": self.undecided,
        }

    def add(self, double: DoubleReading) -> None:
        """Count two readings."""
        one, other = (collapse(each.text) for each in double.readings)
        length = max(len(one), len(other))
        self.images += 1
        self.exact += is_same(*double.readings)
        self.characters += length
        self.edits += round((1 - similarity(one, other)) * length)
        self.undecided += double.state is DoubleState.DIFFERENT


@dataclass
class Agreements:
    """Agreement by whom and of which images."""

    total: Agreement = field(default_factory=Agreement)
    pairs: dict[tuple[str, ...], Agreement] = field(default_factory=lambda: defaultdict(Agreement))
    annotators: dict[str, Agreement] = field(default_factory=lambda: defaultdict(Agreement))
    collections: dict[str, Agreement] = field(default_factory=lambda: defaultdict(Agreement))

    @property
    def rows(self) -> list[tuple[str, Agreement]]:
        """All of them by words, the total first."""
        return [("all", self.total)] + [
            (f"{name} {words}", each)
            for name, group in self.groups.items()
            for words, each in sorted(group.items())
        ]

    def document(self) -> dict[str, Any]:
        """Return them as JSON-serialisable values."""
        groups = {
            name: {words: each.document() for words, each in sorted(group.items())}
            for name, group in self.groups.items()
        }
        return {**self.total.document(), **groups}

    @property
    def groups(self) -> Mapping[str, Mapping[str, Agreement]]:
        """All of them by what groups the images, in words."""
        return {
            "annotator": self.annotators,
            "pair": {" and ".join(names): each for names, each in self.pairs.items()},
            "collection": self.collections,
        }

    def add(self, document: ImageDocument) -> None:
        """Count an image that was read twice."""
        double = document.double_reading
        if double is not None and double.second is not None:
            for each in self._groups_of(double, document):
                each.add(double)

    def _groups_of(self, double: DoubleReading, document: ImageDocument) -> Iterator[Agreement]:
        readers = sorted({each.by for each in double.readings})
        yield self.total
        yield self.pairs[tuple(readers)]
        yield from (self.annotators[name] for name in readers)
        names = {each.collection for each in document.sources if each.collection}
        yield from (self.collections[name] for name in names)


async def count_agreement(images: ImageRepository, limits: Limits = NO_LIMITS) -> Agreements:
    """Count the images that two people have read."""
    agreements = Agreements()
    async for each in images.find(ImageFilter(limits, double=READ_TWICE), fields=_FIELDS):
        agreements.add(each)
    return agreements
