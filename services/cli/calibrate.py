"""``docreco calibrate``: fit scores to probabilities, with annotated images."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, cast

import typer

from app.engines.calibration import SUFFIX, Calibration
from services.cli.errors import CommandError, ExitStatus
from services.cli.limits import limited, require_some
from services.cli.options import OnlyCorrected, tabular
from services.cli.output import Output, Table, cell, run
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import open_database
from services.common.domain.annotations import collapse
from services.common.domain.image_filter import NO_LIMITS, ImageFilter, Limits
from services.common.domain.records import Prediction
from services.common.runtime.settings import MongoSettings
from services.quality.annotated import Image, annotated

if TYPE_CHECKING:
    from app.engines.fitting import Bin, MethodName

FEWEST = 50
"""Minimum of annotated images."""


class Method(StrEnum):
    """Form of the curve."""

    AUTO = "auto"
    TEMPERATURE = "temperature"
    PLATT = "platt"
    ISOTONIC = "isotonic"


class Sample(NamedTuple):
    """A prediction of an annotated image."""

    score: float
    is_right: bool


@tabular
@limited
def calibrate(
    *,
    limits: Limits,
    method: Annotated[
        Method,
        typer.Option(
            help="auto: the best on images that a fit has not seen; temperature: one number; "
            "platt: two numbers; isotonic: any rising curve, from hundreds of images."
        ),
    ] = Method.AUTO,
    out: Annotated[Path, typer.Option(help="File of the calibration.")] = Path("calibration.json"),
    model_version: Annotated[
        str | None, typer.Option(help="Model version; default: the one with most annotations.")
    ] = None,
    only_corrected: OnlyCorrected = False,
    output: Output,
) -> None:
    """Fit scores to the share of right texts; set OCR_CALIBRATION to the file."""

    async def work() -> ExitStatus:
        async with open_database(MongoSettings()) as database:
            images = ImageRepository(database.images)
            await require_some(images, limits)
            samples = await collect(images, limits, only_corrected=only_corrected)
        version = _chosen(samples, model_version)
        fitted = fit_to(samples[version], method, version)
        _check(fitted)
        _write(out, fitted.calibration)
        words = f"written: {out}. Start the OCR API with OCR_CALIBRATION={out}"
        document = {
            "file": str(out),
            **fitted.calibration.model_dump(mode="json"),
            "bins": [asdict(each) for each in fitted.bins],
        }
        output.print(document, calibration_table(fitted.calibration), bins_table(fitted), words)
        return ExitStatus.OK

    run(output, work)


async def collect(
    images: ImageRepository, limits: Limits = NO_LIMITS, *, only_corrected: bool = False
) -> dict[str, list[Sample]]:
    """Return the samples of annotated images by model version.

    A text is right if it equals the annotation, except for composition and spaces. An image counts
    once per version, so that folds are disjoint; they are sorted by hash, so that folds are stable.

    Raises:
        DatabaseUnavailableError: MongoDB does not answer.
    """
    samples: dict[str, list[Sample]] = defaultdict(list)
    where = ImageFilter(limits)
    async for page in annotated(images, where, only_corrected=only_corrected):
        for image in page:
            for version, prediction in _own_readings(image).items():
                is_right = collapse(prediction.text) == image.reference
                samples[version].append(Sample(prediction.score, is_right))
    return samples


def _own_readings(image: Image) -> dict[str, Prediction]:
    """Return one prediction with an uncalibrated score per version."""
    found: dict[str, Prediction] = {}
    for document in (image.document, *image.copies):
        prediction = document.prediction
        if (
            prediction is not None
            and prediction.text
            and SUFFIX not in str(prediction.model_version)
        ):
            found.setdefault(str(prediction.model_version), prediction)
    return found


@dataclass(frozen=True)
class Fitted:
    """A calibration and its quality."""

    calibration: Calibration
    bins: "Sequence[Bin]"
    is_better: bool
    is_at_bound: bool


def fit_to(samples: Sequence[Sample], method: Method, model_version: str) -> Fitted:
    """Fit a calibration to samples of one model."""
    import numpy as np  # noqa: PLC0415  they take seconds, and no other command needs them

    from app.engines.fitting import bins_of, fit, fit_best  # noqa: PLC0415

    scores = np.array([sample.score for sample in samples], dtype=np.float64)
    is_right = np.array([sample.is_right for sample in samples], dtype=np.float64)
    if method is Method.AUTO:
        fitted = fit_best(scores, is_right)
    else:
        fitted = fit(cast("MethodName", method.value), scores, is_right)
    calibration = Calibration(
        curve=fitted.curve,
        model_version=model_version,
        n=len(samples),
        fitted_at=datetime.now(tz=UTC),
        ece_before=fitted.ece_before,
        ece_after=fitted.ece_after,
    )
    bins = bins_of(scores, is_right, fitted)
    return Fitted(calibration, bins, fitted.is_better, fitted.is_at_bound)


def _check(fitted: Fitted) -> None:
    """Reject a calibration that makes scores worse, or has the wrong form.

    Raises:
        CommandError: It does.
    """
    method = fitted.calibration.curve.method
    if fitted.is_at_bound:
        problem = f"no {method} curve fits these scores: the best one is at a bound"
    elif not fitted.is_better:
        problem = f"the {method} curve does not improve scores of held-out images"
    else:
        return
    raise CommandError(
        f"{problem}; nothing was written",
        status=ExitStatus.REFUSED,
        hint="Use --method auto, or annotate more images of this model (docreco annotate).",
    )


def calibration_table(calibration: Calibration) -> Table:
    """Format the calibration and its error before and after."""
    columns = ("model", "method", "annotated images", "ECE before", "ECE after")
    row = [
        cell(calibration.model_version),
        cell(calibration.curve.method),
        cell(calibration.n),
        cell(calibration.ece_before, form=".3f"),
        cell(calibration.ece_after, form=".3f"),
    ]
    return Table("Calibration (ECE: mean distance of score and share right)", columns, [row])


def bins_table(fitted: Fitted) -> Table:
    """Format scores before and after, with the share of right texts."""
    rows = [
        [
            cell(f"{each.low:.1f}-{each.high:.1f}"),
            cell(each.n),
            cell(each.calibrated, form=".3f"),
            cell(each.right, form=".3f"),
        ]
        for each in fitted.bins
    ]
    columns = ("score", "images", "calibrated", "really right")
    return Table("Scores before and after, on held-out images", columns, rows)


def _chosen(samples: Mapping[str, Sequence[Sample]], wanted: str | None) -> str:
    counts = Counter({version: len(each) for version, each in samples.items()})
    version = wanted or next((version for version, _ in counts.most_common(1)), None)
    count = counts[version] if version else 0
    if version is None or count < FEWEST:
        raise CommandError(
            f"{count} annotated images of {version or 'any model'}; {FEWEST} are needed",
            status=ExitStatus.REFUSED,
            hint="Annotate more of its predictions (docreco annotate), or name another model with "
            "--model-version. Only images of quality ok count, and only scores that were not "
            "calibrated already: have images read again without OCR_CALIBRATION "
            "(docreco repredict).",
        )
    return version


def _write(out: Path, calibration: Calibration) -> None:
    try:
        out.write_text(calibration.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise CommandError(
            f"{out} can't be written: {error.strerror}", status=ExitStatus.REFUSED
        ) from error
