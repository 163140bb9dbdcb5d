"""``docreco calibrate --auto``: refresh the calibrations that models are served with."""

from collections.abc import Sequence

from app.engines.calibration import Calibration, CalibrationError
from app.engines.loading import add_calibrations
from app.engines.settings import ModelsSettings
from app.engines.weights import UnexpectedModelError
from services.cli.calibration_samples import (
    FEWEST,
    SKIPPED,
    UNRECORDED,
    CalibrationSample,
    Method,
    Unlearnt,
    fit_to,
)
from services.cli.errors import CommandError, ExitStatus
from services.cli.output import Output, Table, cell
from services.common.domain.texts import number_of

MARGIN = 0.98
"""Share of the Brier score that a new calibration has at most: each one makes another version."""


def refresh(samples: Unlearnt, known: Sequence[Calibration], output: Output) -> ExitStatus:
    """Refresh the calibration of each model version, where that makes scores better.

    Raises:
        CommandError: The file of calibrations is damaged, or would be too large.
    """
    models, rows, added = ModelsSettings().models, [], []
    for version, held_out in sorted(samples.known.items()):
        fitted, words = None, f"{number_of(len(held_out), 'annotated image')}; {FEWEST} are needed"
        if version in samples.unrecorded:
            words = UNRECORDED
        elif len(held_out) >= FEWEST:
            fitted, words = _refreshed(version, held_out, known)
        added += [fitted] if fitted else []
        rows.append((version, len(held_out), words, fitted))
    rows += [(version, count, SKIPPED, None) for version, count in sorted(samples.skipped.items())]
    if added:
        try:
            add_calibrations(models, added)
        except (CalibrationError, UnexpectedModelError) as error:
            raise CommandError(str(error), status=ExitStatus.REFUSED) from error
    document = [
        {
            "model_version": version,
            "images": images,
            "outcome": words,
            "calibration": fitted and fitted.model_dump(mode="json"),
        }
        for version, images, words, fitted in rows
    ]
    lines = [[cell(each) for each in row[:3]] for row in rows]
    columns = ("model", "annotated images", "outcome")
    empty = "No model has read an annotated image."
    output.print({"models": document}, Table("Calibrations", columns, lines, empty=empty))
    return ExitStatus.OK


def _refreshed(
    version: str, samples: Sequence[CalibrationSample], known: Sequence[Calibration]
) -> tuple[Calibration | None, str]:

    import numpy as np  # noqa: PLC0415  they take seconds, and no other command needs them

    from app.engines.fitting import LINES, expected_calibration_error  # noqa: PLC0415

    fitted = fit_to(samples, Method.AUTO, version, LINES)
    valid = next((each for each in reversed(known) if each.model_version == version), None)
    scores = np.array(
        [valid.curve(each.score, each.characters) if valid else each.score for each in samples]
    )
    is_right = np.array([float(each.is_right) for each in samples])
    now, brier = expected_calibration_error(scores, is_right), ((scores - is_right) ** 2).mean()
    if fitted.is_at_bound or fitted.brier >= MARGIN * brier:
        return None, f"kept as it is: calibration error {now:.3f}"
    error = fitted.calibration.ece_after
    return fitted.calibration, f"refreshed: calibration error {now:.3f} before, {error:.3f} after"
