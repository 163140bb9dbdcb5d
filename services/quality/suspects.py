"""Judge annotations: which are suspect, and why.

A judgement compares an annotation with what is usual of its collection (a ``Norm``), so it needs no
threshold of a certain model or kind of text. See docs/decisions/0041-suspect-labels.md.
"""

import html
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil, inf, log
from statistics import median
from typing import NamedTuple, Self

from services.common.domain.accuracy import similarity
from services.common.domain.annotations import collapse
from services.common.domain.image import ImageDocument
from services.common.domain.records import Quality
from services.common.domain.texts import Text

CHANCE = 0.05
"""Share of unrelated texts that may seem related: the usual level of significance (Fisher 1925)."""
FEWEST = ceil(1 / CHANCE)
"""Images of a norm: fewer have no such quantile."""
OUTLIER = 3.5
"""Modified z-score of an outlier (Iglewicz and Hoaglin, *How to Detect and Handle Outliers*, 1993),
like the next one, which makes the median deviation comparable with a standard deviation."""
NORMAL = 0.6745
LOWEST = 0.1
"""Share of scores that are not confident: the lowest tenth, by measurement. A quarter loses one
swapped label in six, a twentieth adds a false alarm to each four that are found."""

_REPLACED = re.compile("\ufffd|\\?[^\\W\\d_]|(?<![A-Z\u00c0-\u00de])\u00c3(?= |$)")
"""The replacement character, a question mark in place of a letter, or an ``à`` whose second byte
was taken for a space."""
_BESIDE_LETTER = re.compile(r"[A-Za-z]\?|\?[A-Za-z]")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_MULTIBYTE = re.compile("[\u00c2-\u00c5][^\x00-\x7f]|\u00e2[^\x00-\x7f]{2}")
"""Bytes of a character of Latin-1, Latin Extended-A or general punctuation, each as a character."""


class Reason(StrEnum):
    """Reason why an annotation is suspect, a stable code; in order of precision."""

    MOJIBAKE = "mojibake"
    CUT = "cut"
    CONTRADICTED = "contradicted"
    LENGTH = "length"
    ANNOTATORS_DIFFER = "annotators_differ"
    DIFFERS = "differs"


SENTENCES: Mapping[Reason, Text] = {
    Reason.MOJIBAKE: Text("It has characters that a wrong encoding leaves."),
    Reason.CONTRADICTED: Text("A confident model has read another text."),
    Reason.CUT: Text("The model has read the same text, and more of it."),
    Reason.LENGTH: Text("It is too long or too short for the width of the image."),
    Reason.ANNOTATORS_DIFFER: Text("Two annotators have typed different texts."),
    Reason.DIFFERS: Text(
        "It differs from what a confident model has read more than is usual here."
    ),
}


@dataclass(frozen=True)
class Spread:
    """Median of some values, and the usual deviation from it."""

    median: float
    deviation: float

    @classmethod
    def of(cls, values: Sequence[float], *, least: float) -> Self:
        """Return that of values, with a least deviation; without values nothing is unusual."""
        if not values:
            return cls(0.0, inf)
        middle = median(values)
        deviations = median(abs(each - middle) for each in values)
        return cls(middle, max(deviations / NORMAL, least))

    def score(self, value: float) -> float:
        """Return the modified z-score of a value."""
        return (value - self.median) / self.deviation


@dataclass(frozen=True)
class Norm:
    """Usual values of annotated images that belong together."""

    unrelated: float
    """Similarity that few predictions have with the text of another image."""
    confident: float
    """Score of a confident prediction."""
    by_similarity: Spread
    """Similarity of texts and predictions."""
    by_reading: Spread
    """Logarithm of the length of the text over that of the prediction."""
    by_width: Spread
    """Logarithm of the characters per width, in heights of the image."""

    @classmethod
    def of(cls, samples: Sequence["NormSample"]) -> Self | None:
        """Return the norm of images in random order; None of too few."""
        if len(samples) < FEWEST:
            return None
        pairs = zip(samples, [*samples[1:], samples[0]], strict=True)
        by_chance = sorted(similarity(one.hypothesis, other.reference) for one, other in pairs)
        scores = sorted(each.score for each in samples)
        # A character more or less is never unusual
        least = 1 / median(len(each.reference) for each in samples)
        return cls(
            unrelated=by_chance[ceil((1 - CHANCE) * len(samples)) - 1],
            confident=scores[int(LOWEST * len(samples))],
            by_similarity=Spread.of([each.similarity for each in samples], least=least),
            by_reading=Spread.of([each.by_reading for each in samples], least=least),
            by_width=Spread.of([each.by_width for each in samples if each.shape], least=least),
        )


class NormSample(NamedTuple):
    """Values of an image, of which norms are made and which are compared with them."""

    reference: str
    """Normalised text; not empty."""
    hypothesis: str
    score: float
    shape: float
    """Width over height of the image; 0: unknown."""

    @classmethod
    def of(cls, document: ImageDocument) -> Self | None:
        """Return that of an image with a text and a prediction, else None."""
        annotation, prediction = document.annotation, document.prediction
        if annotation is None or prediction is None or annotation.quality is not Quality.OK:
            return None
        width, height = document.width or 0, document.height or 0
        reference, hypothesis = collapse(annotation.text), collapse(prediction.text)
        shape = width / height if height else 0.0
        return cls(reference, hypothesis, prediction.score, shape) if reference else None

    @property
    def similarity(self) -> float:
        """Similarity of the text and the prediction."""
        return similarity(self.hypothesis, self.reference)

    @property
    def by_reading(self) -> float:
        """Logarithm of the length of the text over that of the prediction."""
        return log(len(self.reference) / max(1, len(self.hypothesis)))

    @property
    def by_width(self) -> float:
        """Logarithm of the characters per width."""
        return log(len(self.reference) / self.shape)


@dataclass(frozen=True)
class Norms:
    """Norms of the annotated images of each collection, and of all."""

    of_all: Norm | None = None
    of_collections: Mapping[str, Norm] = field(default_factory=dict)

    @classmethod
    def of(cls, documents: Iterable[ImageDocument]) -> Self:
        """Return the norms of annotated images in random order."""
        samples: list[NormSample] = []
        by_collection: dict[str, list[NormSample]] = defaultdict(list)
        for document in documents:
            if (sample := NormSample.of(document)) is not None:
                samples.append(sample)
                by_collection[_collection(document)].append(sample)
        norms = ((name, Norm.of(those)) for name, those in by_collection.items())
        return cls(Norm.of(samples), {name: norm for name, norm in norms if norm is not None})

    def reasons(self, document: ImageDocument) -> list[Reason]:
        """Return why an image's annotation is suspect; nothing if it is not, or is confirmed."""
        annotation, sample = document.annotation, NormSample.of(document)
        if annotation is None or sample is None or annotation.confirmed is not None:
            return []
        norm = self.of_collections.get(_collection(document), self.of_all)
        compared = () if norm is None else _compared(sample, norm)
        found = {*_of_text(sample), *compared, *_of_history(document)}
        return [each for each in Reason if each in found]


def similarity_of(document: ImageDocument) -> float:
    """Return the similarity of text and prediction; 1 without both."""
    sample = NormSample.of(document)
    return 1.0 if sample is None else sample.similarity


def _of_text(sample: NormSample) -> Iterator[Reason]:
    text = sample.reference
    if (
        _REPLACED.search(text)
        or any(html.unescape(each) != each for each in _ENTITY.findall(text))
        or any(_is_misread(each) for each in _MULTIBYTE.findall(text))
        or _has_lost_accents(sample)
    ):
        yield Reason.MOJIBAKE


def _has_lost_accents(sample: NormSample) -> bool:
    """Whether question marks stand where the model has read letters that are not ASCII."""
    text, hypothesis = sample.reference, sample.hypothesis
    is_lost = (
        text.isascii() and not hypothesis.isascii() and text.count("?") > hypothesis.count("?")
    )
    return is_lost and bool(_BESIDE_LETTER.search(text))


def _is_misread(characters: str) -> bool:
    """Whether these are the bytes of one UTF-8 character, read as Windows-1252 or Latin-1."""
    for encoding in ("cp1252", "latin-1"):
        try:
            return len(characters.encode(encoding).decode("utf-8")) == 1
        except UnicodeError:
            continue
    return False


def _compared(sample: NormSample, norm: Norm) -> Iterator[Reason]:
    reference, hypothesis = sample.reference, sample.hypothesis
    if sample.score >= norm.confident:
        if (alike := sample.similarity) <= norm.unrelated:
            yield Reason.CONTRADICTED
        elif norm.by_similarity.score(alike) < -OUTLIER:
            yield Reason.DIFFERS
    if norm.by_reading.score(sample.by_reading) < -OUTLIER:
        ends = (hypothesis[: len(reference)], hypothesis[-len(reference) :])
        if any(similarity(reference, each) > norm.unrelated for each in ends):
            yield Reason.CUT
    if sample.shape and abs(norm.by_width.score(sample.by_width)) > OUTLIER:
        yield Reason.LENGTH


def _of_history(document: ImageDocument) -> Iterator[Reason]:
    """Compare two readings of an image, then the last texts of people, or else of lists."""
    current = document.annotation
    if current is None:
        return
    earlier = [each for each in document.annotation_history if not each.has_ended]
    by = {
        each.by: (collapse(each.text), each.quality)
        for each in (*earlier, current)
        if each.came_with_list == current.came_with_list
    }
    if document.is_undecided or len(set(by.values())) > 1:
        yield Reason.ANNOTATORS_DIFFER


def _collection(document: ImageDocument) -> str:
    return next((each.collection for each in document.sources if each.collection), "")
