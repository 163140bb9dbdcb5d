"""``docreco calibrate``: what a score is worth, learnt from annotated images."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.table import Table

from app.engines.calibration import SUFFIX, Calibration
from services.cli.errors import CommandError, ExitStatus
from services.cli.output import Output, cell, run, table
from services.common.annotations import Quality, collapse
from services.common.index import Collection, open_index
from services.common.settings import MongoSettings

FEWEST = 50
"""Annotated images: with fewer, chance decides what is learnt."""
FIELDS = {"prediction.text": 1, "prediction.score": 1, "prediction.model_version": 1} | {
    "annotation.text": 1
}


class Method(StrEnum):
    """What is fitted."""

    TEMPERATURE = "temperature"
    ISOTONIC = "isotonic"


class Sample(NamedTuple):
    """A prediction of which it is known whether it is right."""

    score: float
    is_right: bool


def calibrate(
    *,
    method: Annotated[
        Method, typer.Option(help="temperature: one number; isotonic: any curve, from hundreds.")
    ] = Method.TEMPERATURE,
    out: Annotated[Path, typer.Option(help="Where the calibration goes.")] = Path(
        "calibration.json"
    ),
    model_version: Annotated[
        str | None, typer.Option(help="Which model; without it the one with most annotations.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Fit scores to how often the text is right; OCR_CALIBRATION then names the file."""
    output = Output(as_json=as_json)

    async def work() -> ExitStatus:
        async with open_index(MongoSettings()) as index:
            samples = await collect(index.images)
        version = _chosen(samples, model_version)
        calibration = fit_to(samples[version], method, version)
        _write(out, calibration)
        words = f"written: {out}. Start the OCR API with OCR_CALIBRATION={out}"
        document = {"file": str(out), **calibration.model_dump(mode="json")}
        output.answer(document, calibration_table(calibration), words)
        return ExitStatus.OK

    run(output, work)


async def collect(images: Collection) -> dict[str, list[Sample]]:
    """Return what annotated images say of each model's own scores, by its version.

    A text is right where it is the annotation, but for composition and spaces.

    Raises:
        IndexUnavailableError: MongoDB does not answer.
    """
    samples: dict[str, list[Sample]] = defaultdict(list)
    where = {"annotation.quality": Quality.OK.value, "status": "predicted"}
    async for document in images.find(where, fields=FIELDS):
        prediction, right = document["prediction"], document["annotation"]["text"]
        version = prediction["model_version"]
        if prediction["text"] and SUFFIX not in version:
            is_right = collapse(prediction["text"]) == collapse(right)
            samples[version].append(Sample(prediction["score"], is_right))
    return samples


def fit_to(samples: Sequence[Sample], method: Method, model_version: str) -> Calibration:
    """Fit a calibration to samples of one model."""
    import numpy as np  # noqa: PLC0415  they take seconds, and no other command needs them

    from app.engines.fitting import fit  # noqa: PLC0415

    fitted = fit(
        method.value,
        np.array([sample.score for sample in samples], dtype=np.float64),
        np.array([sample.is_right for sample in samples], dtype=np.float64),
    )
    return Calibration(
        curve=fitted.curve,
        model_version=model_version,
        n=len(samples),
        fitted_at=datetime.now(tz=UTC),
        ece_before=fitted.ece_before,
        ece_after=fitted.ece_after,
    )


def calibration_table(calibration: Calibration) -> Table:
    """Return what was learnt, and how far scores are from the truth before and after."""
    columns = ("model", "method", "annotated images", "ECE before", "ECE after")
    row = [
        cell(calibration.model_version),
        cell(calibration.curve.method),
        cell(calibration.n),
        cell(f"{calibration.ece_before:.3f}"),
        cell(f"{calibration.ece_after:.3f}"),
    ]
    return table("Calibration (ECE: mean distance of score and share right)", columns, [row])


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
