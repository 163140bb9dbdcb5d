"""``docreco calibrate``: fit scores to probabilities, with annotated images."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from app.engines.calibration import Calibration
from app.engines.settings import ModelsSettings
from services.cli.calibrate_auto import refresh
from services.cli.calibration_samples import (
    FEWEST,
    SKIPPED,
    UNRECORDED,
    Fitted,
    Method,
    Samples,
    Unlearnt,
    collect,
    fit_to,
    read_known,
)
from services.cli.errors import CommandError, ExitStatus, status_of
from services.cli.limits import limited, open_images
from services.cli.options import OnlyCorrected, tabular
from services.cli.output import Output, Table, cell
from services.common.domain.image_filter import Limits
from services.common.domain.texts import number_of
from services.common.domain.trained_models import CALIBRATION_MARK


@tabular
@limited
async def calibrate(
    *,
    limits: Limits,
    method: Annotated[
        Method,
        typer.Option(
            help="auto: the best on images that a fit has not seen; temperature: one number; "
            "platt: two numbers; length: three, for texts of any length; isotonic: any rising "
            "curve, from hundreds of images."
        ),
    ] = Method.AUTO,
    out: Annotated[Path, typer.Option(help="File of the calibration.")] = Path("calibration.json"),
    model_version: Annotated[
        str | None,
        typer.Option(
            help="Model version, with or without a calibration; default: the recorded one with "
            "most annotations."
        ),
    ] = None,
    auto: Annotated[
        bool,
        typer.Option(
            "--auto",
            help="Refresh the calibrations of all model versions in the folder of models, where "
            "that makes scores better; OCR APIs pick them up. No file is written.",
        ),
    ] = False,
    only_corrected: OnlyCorrected = False,
    output: Output,
) -> ExitStatus:
    """Fit scores to the share of right texts; set OCR_CALIBRATION to the file."""
    async with open_images(limits) as images:
        known = read_known(ModelsSettings().models)
        collected = await collect(images, limits, known, only_corrected=only_corrected)
    samples = collected.without_learnt(ModelsSettings().models)
    if auto:
        return refresh(samples, known, output)
    version = _chosen(samples, model_version and model_version.partition(CALIBRATION_MARK)[0])
    fitted = fit_to(samples.known[version], method, version)
    _check(fitted)
    _write(out, fitted.calibration)
    words = [
        f"written: {out}. Start the OCR API with OCR_CALIBRATION={out}",
        *_left_out(samples, version),
        *_skipped(samples),
        *_unrecorded(samples),
    ]
    document = {
        "file": str(out),
        **fitted.calibration.model_dump(mode="json"),
        "bins": [asdict(each) for each in fitted.bins],
        "skipped": dict(samples.skipped),
        "left_out": samples.left_out[version],
        "unrecorded": {each: len(samples.known[each]) for each in sorted(samples.unrecorded)},
    }
    output.print(document, calibration_table(fitted.calibration), bins_table(fitted), *words)
    return ExitStatus.OK


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


def _left_out(samples: Unlearnt, version: str) -> list[str]:
    count = samples.left_out[version]
    return [f"{number_of(count, 'image')} left out: the model was trained on them"] if count else []


def _skipped(samples: Samples) -> list[str]:
    return [
        f"{number_of(count, 'image')} of {version} {SKIPPED}"
        for version, count in samples.skipped.items()
    ]


def _unrecorded(samples: Unlearnt) -> list[str]:
    return [
        f"{number_of(len(samples.known[version]), 'image')} of {version} skipped: {UNRECORDED}"
        for version in sorted(samples.unrecorded)
    ]


def _chosen(samples: Unlearnt, wanted: str | None) -> str:
    """Return a version to calibrate, of which it is known what it was trained on.

    Raises:
        CommandError: There is none with enough annotated images.
    """
    counts = Counter({version: len(each) for version, each in samples.known.items()})
    usable = [version for version, _ in counts.most_common() if version not in samples.unrecorded]
    version = wanted or next(iter(usable), None)
    count = counts[version] if version else 0
    if version is None or count < FEWEST:
        problem = f"{number_of(count, 'annotated image')} of {version or 'any model'}; "
        problem += f"{FEWEST} are needed"
        raise CommandError(
            "; ".join(
                [
                    problem,
                    *_left_out(samples, version or ""),
                    *_skipped(samples),
                    *_unrecorded(samples),
                ]
            ),
            status=ExitStatus.REFUSED,
            hint="Annotate more of its predictions (docreco annotate), or name another model with "
            "--model-version. Only images of quality ok count.",
        )
    if version in samples.unrecorded:
        raise CommandError(
            f"{version}: {UNRECORDED}; scores of what it has learnt would make it too sure",
            status=ExitStatus.REFUSED,
            hint="Name another model with --model-version.",
        )
    return version


def _write(out: Path, calibration: Calibration) -> None:
    try:
        out.write_text(calibration.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise CommandError(
            f"{out} can't be written: {error.strerror}", status=status_of(error)
        ) from error
