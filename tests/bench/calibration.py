"""Fit the embedded model's calibration to real lines: ``python -m tests.bench.calibration ZIP...``.

The archives are those of ``tests.bench.suggest``. It uses their part ``validation``, and 400 lines
of ``train``: this model was trained on neither. Errors are of five folds of whole documents. The
table compares, by archive, what curves of other documents expect with what is so.
"""

import argparse
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from app.engines.calibration import Calibration
from app.engines.fitting import (
    FOLDS,
    Scores,
    applied,
    expected_calibration_error,
    fit,
    fit_accuracy,
)
from app.engines.loading import PACKAGED
from app.engines.rapid import load_model
from services.common.domain.trained_models import EMBEDDED
from services.training.lines import TRAIN, VALIDATION, TrainingLine
from services.training.measuring import LineReading, read_lines
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
    lines: list[TrainingLine] = []
    kinds: list[str] = []
    for archive in chosen.archives:
        lines += lines_of(archive, VALIDATION)
        lines += sorted(lines_of(archive, TRAIN), key=lambda line: line.name)[:MOST]
        kinds += [archive.stem] * (len(lines) - len(kinds))
    os.environ["OCR_CALIBRATION"] = "none"
    engine = load_model(EMBEDDED, threads=2)
    read = zip(kinds, (read_lines(engine, [line])[0] for line in lines), strict=True)
    known = [(kind, each) for kind, each in read if each.text]
    readings = [each for _, each in known]
    unseen = held_out(readings)
    calibration = fitted(readings, engine.model_version, unseen)
    content = json.loads(PACKAGED.read_text())
    content["provenance"] = chosen.provenance
    # Earlier ones stay: stored scores can be turned back only by them
    content["calibrations"].append(calibration.model_dump(mode="json", exclude_none=True))
    PACKAGED.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    print(calibration.model_dump_json(indent=2))  # noqa: T201  the result
    show(np.array([kind for kind, _ in known]), Columns.of(readings), unseen)


class Columns(NamedTuple):
    """Figures of readings."""

    scores: Scores
    is_right: Scores
    lengths: NDArray[np.int_]
    """Of the texts read."""
    accuracies: Scores
    errors: NDArray[np.int_]
    characters: NDArray[np.int_]
    """Of the right texts."""

    @classmethod
    def of(cls, readings: Sequence[LineReading]) -> Self:
        """Return those of readings."""
        return cls(
            np.array([each.score for each in readings]),
            np.array([float(not each.errors) for each in readings]),
            np.array([len(each.text) for each in readings]),
            np.array([each.accuracy for each in readings]),
            np.array([each.errors for each in readings]),
            np.array([len(each.line.text) for each in readings]),
        )


def held_out(readings: Sequence[LineReading]) -> tuple[Scores, Scores]:
    """Return calibrated scores and expected accuracies, by curves of other documents."""
    scores, is_right, lengths, accuracies, *_ = Columns.of(readings)
    _, documents = np.unique([each.line.group for each in readings], return_inverse=True)
    folds = np.random.default_rng(0).permutation(documents.max() + 1)[documents] % FOLDS
    calibrated, expected = np.empty(len(scores)), np.empty(len(scores))
    for fold in range(FOLDS):
        is_out = folds == fold
        curve = fit("length", scores[~is_out], is_right[~is_out], lengths[~is_out]).curve
        line = fit_accuracy(scores[~is_out], accuracies[~is_out])
        calibrated[is_out] = applied(curve, scores[is_out], lengths[is_out])
        expected[is_out] = applied(line, scores[is_out], lengths[is_out])
    return calibrated, expected


def fitted(
    readings: Sequence[LineReading], version: str, unseen: tuple[Scores, Scores]
) -> Calibration:
    """Fit to readings; the errors are of documents that a curve has not seen."""
    scores, is_right, lengths, accuracies, *_ = Columns.of(readings)
    return Calibration(
        curve=fit("length", scores, is_right, lengths).curve,
        model_version=version,
        n=len(scores),
        fitted_at=datetime.now(UTC).replace(microsecond=0),
        ece_before=expected_calibration_error(scores, is_right),
        ece_after=expected_calibration_error(unseen[0], is_right),
        accuracy=fit_accuracy(scores, accuracies),
    )


def show(kinds: NDArray[np.str_], columns: Columns, unseen: tuple[Scores, Scores]) -> None:
    """Show what was expected of documents that a curve has not seen, and what is so."""
    probabilities, expected = unseen
    table = Table("lines", "images", "exact", "mean score", "its ECE", "CER", "expected", "its ECE")
    for kind in ("", *np.unique(kinds)):
        part = (kinds == kind) if kind else np.full(len(kinds), True)
        is_right, lengths = columns.is_right[part], columns.lengths[part]
        gap = expected_calibration_error(expected[part], columns.accuracies[part])
        table.add_row(
            kind or "all",
            f"{part.sum()}",
            f"{is_right.mean():.1%}",
            f"{probabilities[part].mean():.3f}",
            f"{expected_calibration_error(probabilities[part], is_right):.3f}",
            f"{columns.errors[part].sum() / columns.characters[part].sum():.1%}",
            f"{np.average(1 - expected[part], weights=lengths):.1%}",
            f"{gap:.3f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
