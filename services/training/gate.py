"""The gate before a promotion: is a model better than the one in service, on lines never learnt?"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from app.engines.base import Engine
from services.common.domain.accuracy import word_errors
from services.common.domain.errors import PermanentError
from services.common.domain.records import How
from services.common.domain.texts import number_of
from services.common.domain.trained_models import CALIBRATION_MARK, ComparedRates, PromotionDecision
from services.datasets.differences import SIGNIFICANT, Pairs, find_rises, rates
from services.datasets.evaluation import EvaluatedReading
from services.datasets.quality import MetricDifference, compare, quality_of
from services.training.learnt import Learnt
from services.training.lines import TrainingLine
from services.training.measuring import MOST_LINES, LineReading, read_lines

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
    lines: Sequence[TrainingLine]
    is_test: bool = True
    """Whether they are a split of their own; else trainings may have chosen by them."""


def decide(
    candidate: Engine, current: Engine, exports: Sequence[HeldOut], learnt: Learnt
) -> PromotionDecision:
    """Read lines by both models, and decide.

    Raises:
        TooFewLinesError: Less than two are left.
        RefusedError: An image can't be decoded.
    """
    exports, left_out = _unlearnt(exports, learnt)
    lines = [line for export in exports for line in export.lines]
    if len(lines) < 2:
        raise TooFewLinesError(
            f"{len(lines)} annotated lines are held out ({left_out} more were left out, as a model "
            "was trained on them or chosen by them): annotate more, and export a test split"
        )
    new, old = (_read(engine, exports) for engine in (candidate, current))
    one, other, difference = quality_of(new), quality_of(old), compare(new, old).cer
    sources = [
        [f"{export.name} {group}".strip() for group in line.groups]
        for export in exports
        for line in export.lines
    ]
    by_source = _grouped(new, old, sources)
    by_tag = _grouped(new, old, [line.tags for line in lines])
    rises = find_rises(by_source, by_tag)
    problems = [*_not_better(difference), *(str(each) for each in rises if each.is_evident)]
    warnings = [
        *(str(each) for each in rises if not each.is_evident),
        *_warnings(lines, learnt),
        *_accepted(new, old),
    ]
    if one.calibration_error > max(CALIBRATED, other.calibration_error):
        words = (
            f"the calibration error rises from {other.calibration_error:.1%} to "
            f"{one.calibration_error:.1%}"
        )
        if CALIBRATION_MARK in candidate.model_version:
            problems.append(words)
        else:
            warnings.append(f"{words}: docreco calibrate --auto after 50 annotations of its own")
    return PromotionDecision(
        at=datetime.now(UTC),
        model_version=candidate.model_version,
        against=current.model_version,
        images=one.images,
        cer=one.cer.value,
        against_cer=other.cer.value,
        p_value=difference.p_value,
        calibration_error=one.calibration_error,
        against_calibration_error=other.calibration_error,
        by_source={name: _part(pairs) for name, pairs in by_source.items()},
        by_tag={name: _part(pairs) for name, pairs in by_tag.items()},
        problems=problems,
        left_out=left_out,
        warnings=warnings,
    )


def _read(engine: Engine, exports: Sequence[HeldOut]) -> list[EvaluatedReading]:
    return [
        _sample(reading, export.name)
        for export in exports
        for reading in read_lines(engine, export.lines)
    ]


def _not_better(difference: MetricDifference) -> list[str]:
    """Return why a difference of the character error rates is no gain."""
    if difference.estimate.value >= 0:
        return ["the character error rate is not lower"]
    if difference.p_value >= SIGNIFICANT:
        return [f"the difference may be chance (p = {difference.p_value:.3f})"]
    return []


def _unlearnt(exports: Sequence[HeldOut], learnt: Learnt) -> tuple[list[HeldOut], int]:
    """Return the lines that flatter no model, each once and as many as are read; count the others.

    Lines that a model was chosen by are left out where the export has a test split, and are the
    last ones elsewhere: another export may hold out other lines. A line that is read as one of
    another export is not left out.
    """
    known, left, left_out = set[str](), [], set[str]()
    for export in exports:
        flattering = learnt.images | learnt.chosen_by if export.is_test else learnt.images
        left_out |= {line.name for line in export.lines} & flattering
        unusable = known | flattering
        usable = [line for line in export.lines if line.name not in unusable]
        lines = sorted(usable, key=lambda line: line.name in learnt.chosen_by)[:MOST_LINES]
        known |= {line.name for line in lines}
        left.append(replace(export, lines=lines))
    return left, len(left_out - known)


def _warnings(lines: Sequence[TrainingLine], learnt: Learnt) -> list[str]:
    found = []
    if related := len(learnt.of_known_groups(lines)):
        found.append(
            f"{related} of {number_of(len(lines), 'line')} from sources that a model was "
            "trained on: others may be read worse"
        )
    if chosen := sum(line.name in learnt.chosen_by for line in lines):
        found.append(
            f"{chosen} of the {len(lines)} lines chose the weights, the language model and the "
            "calibration of a model, as there is no test split: it may be worse than it seems"
        )
    if not learnt.is_complete:
        found.append("it is not recorded by which lines a model was trained")
    if not learnt.is_choice_recorded:
        found.append(
            "it is not recorded by which lines the weights, the language model and the calibration "
            "of a model were chosen, as an earlier version trained it: these may be among them"
        )
    return found


def _accepted(new: Sequence[EvaluatedReading], old: Sequence[EvaluatedReading]) -> list[str]:
    """Warn of texts that are predictions: they flatter the model that has made them."""
    pairs = list(zip(new, old, strict=True))
    others = [pair for pair in pairs if pair[0].how != How.ACCEPTED]
    if len(others) == len(pairs):
        return []
    words = (
        f"{len(pairs) - len(others)} of {number_of(len(pairs), 'text')} are predictions that a "
        "person accepted as shown, which the model that made them reads too well"
    )
    if others:
        cer, against_cer = rates(others)
        words += f": without them the CER is {against_cer:.1%} before, {cer:.1%} after"
    return [words]


def _grouped(
    new: Sequence[EvaluatedReading], old: Sequence[EvaluatedReading], names: Sequence[Sequence[str]]
) -> dict[str, Pairs]:
    """Return the lines by name, the most lines first."""
    found = defaultdict(list)
    for one, other, own in zip(new, old, names, strict=True):
        for name in own:
            found[name].append((one, other))
    return dict(sorted(found.items(), key=lambda each: (-len(each[1]), each[0])))


def _part(pairs: Pairs) -> ComparedRates:
    cer, against_cer = rates(pairs)
    return ComparedRates(against_cer, cer, len(pairs))


def _sample(reading: LineReading, export: str) -> EvaluatedReading:
    line = reading.line
    words = word_errors(reference=line.text, hypothesis=reading.text)
    return EvaluatedReading(
        image=line.name,
        host=f"{export} {line.group}".strip(),
        reference=line.text,
        hypothesis=reading.text,
        score=reading.score,
        errors=reading.errors,
        word_errors=words.errors,
        words=words.words,
        how=line.how,
    )
