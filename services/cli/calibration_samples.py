"""Samples to fit calibrations to: predictions of annotated images, and whether they are right."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from app.engines.calibration import SUFFIX, Calibration, CalibrationError, Isotonic
from app.engines.known_calibrations import known_calibrations
from services.cli.errors import CommandError, ExitStatus
from services.common.adapters.image_repository import ImageRepository
from services.common.domain.accuracy import accuracy
from services.common.domain.image_filter import NO_LIMITS, ImageFilter, Limits
from services.common.domain.records import Prediction
from services.quality.annotated import Image, annotated, hypothesis_of

if TYPE_CHECKING:
    from app.engines.fitting import Bin, MethodName

FEWEST = 50
"""Minimum of annotated images."""


class Method(StrEnum):
    """Form of the curve."""

    AUTO = "auto"
    TEMPERATURE = "temperature"
    PLATT = "platt"
    LENGTH = "length"
    ISOTONIC = "isotonic"


class Sample(NamedTuple):
    """A prediction of an annotated image."""

    score: float
    """As the model gave it."""
    is_right: bool
    characters: int
    accuracy: float
    """Share of right characters."""
    sha256: str


async def collect(
    images: ImageRepository,
    limits: Limits = NO_LIMITS,
    known: Iterable[Calibration] = (),
    *,
    only_corrected: bool = False,
) -> dict[str, list[Sample]]:
    """Return the samples of annotated images by model version.

    A text is right if it equals the annotation, except for composition and spaces. An image counts
    once per version, so that folds are disjoint; they are sorted by hash, so that folds are stable.
    Scores that a known calibration has changed are turned back, unless it is isotonic.
    """
    samples: dict[str, list[Sample]] = defaultdict(list)
    where = ImageFilter(limits)
    by_suffix = {f"{SUFFIX}{each.hash}": each for each in known}
    async for page in annotated(images, where, only_corrected=only_corrected):
        for image in page:
            for version, prediction in _own_readings(image, by_suffix).items():
                samples[version].append(_sample(prediction, image))
    return samples


def _sample(prediction: Prediction, image: Image) -> Sample:
    reference = str(image.reference)
    errors = hypothesis_of(prediction.text, reference=reference).errors
    return Sample(
        score=prediction.score,
        is_right=not errors,
        characters=len(prediction.text),
        accuracy=accuracy(errors, reference),
        sha256=str(image.document.sha256),
    )


def _own_readings(image: Image, known: Mapping[str, Calibration]) -> dict[str, Prediction]:
    """Return one prediction with an uncalibrated score per version."""
    found: dict[str, Prediction] = {}
    for document in (image.document, *image.copies):
        prediction = document.prediction
        if prediction is None or not prediction.text:
            continue
        version, suffix, digest = str(prediction.model_version).partition(SUFFIX)
        if suffix:
            applied = known.get(suffix + digest)
            if applied is None or isinstance(applied.curve, Isotonic):
                continue
            score = applied.curve.inverse(prediction.score, len(prediction.text))
            prediction = prediction.having(score=score)
        found.setdefault(version, prediction)
    return found


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
    samples: Sequence[Sample],
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
    if method is Method.AUTO:
        fitted = fit_best(scores, is_right, lengths, methods=methods or METHODS)
    else:
        fitted = fit(cast("MethodName", method.value), scores, is_right, lengths)
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
