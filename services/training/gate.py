"""The gate before a promotion: is a model better than the one in service, on lines never learnt?"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from app.engines.base import Engine
from app.engines.calibration import SUFFIX
from services.common.domain.accuracy import word_errors
from services.common.domain.errors import PermanentError
from services.common.domain.trained_models import Decision
from services.datasets.evaluation import Sample
from services.datasets.quality import SIGNIFICANT, Rates, compare, quality_of
from services.training.learnt import Learnt
from services.training.lines import Line
from services.training.measuring import Reading, read_lines

MARGIN = 0.02
"""Of the character error rate, by which no source may be read worse."""
FEWEST = 10
"""Lines of a source that are judged by themselves."""
CALIBRATED = 0.1
"""Calibration error that is always good enough; else it must not rise. It may for a model that
has no calibration yet, as its training had too few lines."""


class TooFewLinesError(PermanentError):
    """There is nothing to decide by."""

    code = "too_few_lines"


@dataclass(frozen=True)
class HeldOut:
    """Annotated lines to compare models by."""

    name: str
    """Of their export."""
    lines: Sequence[Line]


def decide(
    candidate: Engine, current: Engine, exports: Sequence[HeldOut], learnt: Learnt
) -> Decision:
    """Read lines by both models, and decide.

    Raises:
        TooFewLinesError: Less than two are left.
        RefusedError: An image can't be decoded.
    """
    given = {line.name for export in exports for line in export.lines}
    exports = _unlearnt(exports, learnt)
    lines = [line for export in exports for line in export.lines]
    left_out = len(given) - len(lines)
    if len(lines) < 2:
        raise TooFewLinesError(
            f"{len(lines)} annotated lines are held out ({left_out} more were left out, as a model "
            "was trained on them): annotate more, and export a test split"
        )
    new, old = (
        [
            _sample(reading, export.name)
            for export in exports
            for reading in read_lines(engine, export.lines)
        ]
        for engine in (candidate, current)
    )
    one, other, difference = quality_of(new), quality_of(old), compare(new, old).cer
    problems = []
    if one.cer.value >= other.cer.value:
        problems.append("the character error rate is not lower")
    elif difference.p_value >= SIGNIFICANT:
        problems.append(f"the difference may be chance (p = {difference.p_value:.3f})")
    problems += _worse_sources(one.by_host, other.by_host)
    warnings = _warnings(lines, learnt)
    if one.calibration_error > max(CALIBRATED, other.calibration_error):
        rises = (
            f"the calibration error rises from {other.calibration_error:.1%} to "
            f"{one.calibration_error:.1%}"
        )
        if SUFFIX in candidate.model_version:
            problems.append(rises)
        else:
            warnings.append(f"{rises}: docreco calibrate --auto after 50 annotations of its own")
    return Decision(
        at=datetime.now(UTC),
        model_version=candidate.model_version,
        against=current.model_version,
        images=one.images,
        cer=one.cer.value,
        against_cer=other.cer.value,
        p_value=difference.p_value,
        calibration_error=one.calibration_error,
        by_source={
            name: (rates.cer, one.by_host[name].cer) for name, rates in other.by_host.items()
        },
        problems=problems,
        left_out=left_out,
        warnings=warnings,
    )


def _unlearnt(exports: Sequence[HeldOut], learnt: Learnt) -> list[HeldOut]:
    """Return what no model was trained on, each line once."""
    known, left = set(learnt.images), []
    for export in exports:
        lines = [line for line in export.lines if line.name not in known]
        known |= {line.name for line in lines}
        left.append(HeldOut(export.name, lines))
    return left


def _warnings(lines: Sequence[Line], learnt: Learnt) -> list[str]:
    found = []
    if related := len(learnt.of_known_groups(lines)):
        found.append(
            f"{related} of the {len(lines)} lines are of sources that a model was trained on: "
            "others may be read worse"
        )
    if not learnt.is_complete:
        found.append("an earlier version trained a model, and did not record by which lines")
    return found


def _worse_sources(new: dict[str, Rates], old: dict[str, Rates]) -> list[str]:
    return [
        f"{name}: the character error rate rises from {rates.cer:.1%} to {new[name].cer:.1%}"
        for name, rates in old.items()
        if rates.images >= FEWEST and new[name].cer > rates.cer + MARGIN
    ]


def _sample(reading: Reading, export: str) -> Sample:
    line = reading.line
    words = word_errors(reference=line.text, hypothesis=reading.text)
    return Sample(
        image=line.name,
        host=f"{export} {line.group}".strip(),
        reference=line.text,
        hypothesis=reading.text,
        score=reading.score,
        errors=reading.errors,
        word_errors=words.errors,
        words=words.words,
    )
