"""Fit the embedded model's calibration to real lines: ``python -m tests.bench.calibration ZIP...``.

The archives are those of ``tests.bench.suggest``. It uses their part ``validation``, and 400 lines
of ``train``: this model was trained on neither. Errors are of five folds of whole documents.
"""

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from app.engines.calibration import Calibration
from app.engines.fitting import FOLDS, applied, expected_calibration_error, fit
from app.engines.known_calibrations import PACKAGED
from app.engines.rapid import load_model
from services.common.domain.trained_models import EMBEDDED
from services.training.lines import TRAIN, VALIDATION, Line
from services.training.measuring import Reading, read_lines
from tests.bench.suggest import lines_of

MOST = 400


def main() -> None:
    """Fit, show the errors, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archives", nargs="+", type=Path, metavar="ZIP")
    parser.add_argument(
        "--provenance", required=True, help="What the lines are, and their licence."
    )
    chosen = parser.parse_args()
    lines: list[Line] = []
    for archive in chosen.archives:
        lines += lines_of(archive, VALIDATION)
        lines += sorted(lines_of(archive, TRAIN), key=lambda line: line.name)[:MOST]
    engine = load_model(EMBEDDED, threads=2)
    readings = [each for line in lines for each in read_lines(engine, [line]) if each.text]
    calibration = fitted(readings, engine.model_version)
    content = {
        "provenance": chosen.provenance,
        "calibrations": [calibration.model_dump(mode="json")],
    }
    PACKAGED.write_text(json.dumps(content, indent=2) + "\n")
    print(calibration.model_dump_json(indent=2))  # noqa: T201  the result


def fitted(readings: Sequence[Reading], version: str) -> Calibration:
    """Fit to readings; the errors are of documents that a curve has not seen."""
    scores = np.array([each.score for each in readings])
    is_right = np.array([float(not each.errors) for each in readings])
    lengths = np.array([len(each.text) for each in readings])
    _, documents = np.unique([each.line.group for each in readings], return_inverse=True)
    folds = np.random.default_rng(0).permutation(documents.max() + 1)[documents] % FOLDS
    unseen = np.empty(len(scores))
    for fold in range(FOLDS):
        is_out = folds == fold
        curve = fit("length", scores[~is_out], is_right[~is_out], lengths[~is_out]).curve
        unseen[is_out] = applied(curve, scores[is_out], lengths[is_out])
    return Calibration(
        curve=fit("length", scores, is_right, lengths).curve,
        model_version=version,
        n=len(scores),
        fitted_at=datetime.now(UTC),
        ece_before=expected_calibration_error(scores, is_right),
        ece_after=expected_calibration_error(unseen, is_right),
    )


if __name__ == "__main__":
    main()
