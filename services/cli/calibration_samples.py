"""Samples to fit calibrations to: predictions of annotated images, and whether they are right."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from app.engines.calibration import Calibration, CalibrationError, Isotonic
from app.engines.loading import known_calibrations
from services.cli.errors import CommandError, ExitStatus
from services.common.adapters.image_repository import ImageRepository
from services.common.domain.accuracy import accuracy, hypothesis_of
from services.common.domain.image_filter import NO_LIMITS, ImageFilter, Limits
from services.common.domain.records import Prediction
from services.common.domain.trained_models import CALIBRATION_MARK
from services.quality.annotated import FIELDS, AnnotatedImage, annotated

if TYPE_CHECKING:
    from app.engines.fitting import Bin, MethodName

FEWEST = 50
"""Minimum of annotated images."""
SKIPPED = (
    "skipped: the calibration is isotonic or not known here, so the model's own scores are not "
    "known; have them read again with OCR_CALIBRATION=none (docreco repredict)"
)

UNRECORDED = (
    "not recorded what it was trained on: copy its folder back into the folder of models, or train "
    "it again"
)


class Method(StrEnum):
    """Form of the curve."""

    AUTO = "auto"
    TEMPERATURE = "temperature"
    PLATT = "platt"
    LENGTH = "length"
    ISOTONIC = "isotonic"


class CalibrationSample(NamedTuple):
    """A prediction of an annotated image."""

    score: float
    """As the model gave it."""
    is_right: bool
    characters: int
    accuracy: float
    """Share of right characters."""
    sha256: str
    group: str
    """Its source: the document or writer, the host, or the collection."""


@dataclass(frozen=True)
class Samples:
    """Samples by model version, and what can't be one."""

    known: dict[str, list[CalibrationSample]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    """Images whose score can't be turned into the model's own, by calibrated version."""

    def without_learnt(self, models: Path) -> "Unlearnt":
        """Return the samples without those of images that made the model.

        A score of what was learnt says nothing of what was not.
        """
        from services.training.learnt import learnt_by_version  # noqa: PLC0415  takes half a second

        found = Unlearnt(skipped=self.skipped)
        for version, samples in self.known.items():
            learnt = learnt_by_version(version, models)
            found.known[version] = [each for each in samples if each.sha256 not in learnt.images]
            found.left_out[version] = len(samples) - len(found.known[version])
            if not learnt.is_complete:
                found.unrecorded.add(version)
        return found


@dataclass(frozen=True)
class Unlearnt(Samples):
    """Samples of images that did not make the model."""

    left_out: Counter[str] = field(default_factory=Counter)
    """Images that the model was trained on, by version."""
    unrecorded: set[str] = field(default_factory=set)
    """Versions of which it is not known what all they were trained on, as of a deleted model."""


async def collect(
    images: ImageRepository,
    limits: Limits = NO_LIMITS,
    known: Iterable[Calibration] = (),
    *,
    only_corrected: bool = False,
) -> Samples:
    """Return the samples of annotated images.

    A text is right if it equals the annotation, except for composition and spaces. An image counts
    once per version, so that folds are disjoint; they are sorted by hash, so that folds are stable.
    Scores that a known calibration has changed are turned back, unless it is isotonic.
    """
    samples = Samples()
    where = ImageFilter(limits)
    by_suffix = {f"{CALIBRATION_MARK}{each.hash}": each for each in known}
    fields = {**FIELDS, "sources": 1}
    async for page in annotated(images, where, fields=fields, only_corrected=only_corrected):
        for image in page:
            add_image(samples, image, by_suffix)
    return samples


def add_image(samples: Samples, image: AnnotatedImage, known: Mapping[str, Calibration]) -> None:
    """Add an image's predictions, one per version; ``known``: calibrations by suffix."""
    found: dict[str, Prediction] = {}
    skipped: dict[str, str] = {}
    for document in (image.document, *image.copies):
        prediction = document.prediction
        if prediction is None or not prediction.text:
            continue
        version, suffix, digest = str(prediction.model_version).partition(CALIBRATION_MARK)
        if not suffix:
            found.setdefault(version, prediction)
            continue
        applied = known.get(suffix + digest)
        if applied is None or isinstance(applied.curve, Isotonic):
            skipped[version] = str(prediction.model_version)
            continue
        score = applied.curve.inverse(prediction.score, len(prediction.text))
        found.setdefault(version, prediction.having(score=score))
    for version, prediction in found.items():
        samples.known.setdefault(version, []).append(_sample(prediction, image))
    samples.skipped.update(full for version, full in skipped.items() if version not in found)


def _sample(prediction: Prediction, image: AnnotatedImage) -> CalibrationSample:
    reference = str(image.reference)
    errors = hypothesis_of(prediction.text, reference=reference).errors
    return CalibrationSample(
        score=prediction.score,
        is_right=not errors,
        characters=len(prediction.text),
        accuracy=accuracy(errors, reference),
        sha256=str(image.document.sha256),
        group=_group(image),
    )


def _group(image: AnnotatedImage) -> str:
    sources = image.document.sources
    names = (name for each in sources for name in (each.group, each.host, each.collection) if name)
    return next(names, str(image.document.sha256))


def read_known(models: Path) -> list[Calibration]:
    """Return all calibrations that are known here.

    Raises:
        CommandError: A file is damaged.
    """
    try:
        return known_calibrations(models)
    except (CalibrationError, ValueError) as error:
        raise CommandError(str(error), status=ExitStatus.REFUSED) from error


@dataclass(frozen=True)
class Fitted:
    """A calibration and its quality."""

    calibration: Calibration
    bins: "Sequence[Bin]"
    brier: float
    """Of scores that it has not seen; lower is better."""
    is_better: bool
    is_at_bound: bool


def fit_to(
    samples: Sequence[CalibrationSample],
    method: Method,
    model_version: str,
    methods: "Sequence[MethodName] | None" = None,
) -> Fitted:
    """Fit a calibration to samples of one model; ``methods``: those of ``auto``."""
    import numpy as np  # noqa: PLC0415  they take seconds, and no other command needs them

    from app.engines.fitting import METHODS, bins_of, fit, fit_accuracy, fit_best  # noqa: PLC0415

    scores = np.array([sample.score for sample in samples], dtype=np.float64)
    is_right = np.array([sample.is_right for sample in samples], dtype=np.float64)
    lengths = np.array([sample.characters for sample in samples])
    groups = [sample.group for sample in samples]
    if method is Method.AUTO:
        fitted = fit_best(scores, is_right, lengths, methods=methods or METHODS, groups=groups)
    else:
        fitted = fit(cast("MethodName", method.value), scores, is_right, lengths, groups=groups)
    calibration = Calibration(
        curve=fitted.curve,
        model_version=model_version,
        n=len(samples),
        fitted_at=datetime.now(tz=UTC),
        ece_before=fitted.ece_before,
        ece_after=fitted.ece_after,
        accuracy=fit_accuracy(scores, np.array([sample.accuracy for sample in samples])),
    )
    bins = bins_of(scores, is_right, fitted)
    return Fitted(calibration, bins, fitted.brier_after, fitted.is_better, fitted.is_at_bound)
