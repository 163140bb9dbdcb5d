"""Error rates of short trainings in which one thing differs: ``python -m tests.bench.levers ZIP``.

The archive is of the kind that ``tests.bench.suggest`` reads. Some lines of its part ``train`` are
learnt, and its part ``validation``, which is of other documents, is read afterwards by the image
alone and with the language model of characters. Results are added to ``--out``; those that are
there already are not computed again.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from services.training.ctc_model import NORMALISATIONS, CtcModel, open_ctc
from services.training.lines import TRAIN, VALIDATION, TrainingLine
from services.training.measuring import MOST_LINES, measure, read_lines
from services.training.plan import TrainingPlan
from tests.bench.suggest import fine_tune, lines_of, usual_plan

Groups = list[dict[str, Any]]


def normalisations_too(model: CtcModel, groups: Groups) -> Groups:
    """Train what normalisation layers add and multiply, as far as the graph keeps it.

    Those that are folded into convolutions have kept what they add alone.
    """
    kept = {id(slot.tensor) for slot in model._slots}
    for layer in model.network.modules():
        if isinstance(layer, NORMALISATIONS):
            for each in layer.parameters():
                each.requires_grad_(id(each) in kept)
    parts = (model.network.model, model.network.head)
    return [
        group | {"params": [each for each in part.parameters() if each.requires_grad]}
        for part, group in zip(parts, groups, strict=True)
    ]


def head_alone(_: CtcModel, groups: Groups) -> Groups:
    """Train the head, and leave the backbone as it is."""
    return [groups[0] | {"factor": 0.0}, groups[1]]


def head_as_backbone(_: CtcModel, groups: Groups) -> Groups:
    """Train the head at the rate of the backbone."""
    return [groups[0], groups[1] | {"factor": 1.0}]


PLANS: Mapping[str, Callable[[TrainingPlan], TrainingPlan]] = {
    "as it is": lambda plan: plan,
    "half the learning rate": lambda plan: replace(plan, learning_rate=plan.learning_rate / 2),
    "twice the learning rate": lambda plan: replace(plan, learning_rate=plan.learning_rate * 2),
    "no augmentation": lambda plan: replace(plan, is_augmented=False),
    "no moving average": lambda plan: replace(plan, averaging=0.0),
    "twice the epochs": lambda plan: replace(
        plan, epochs=2 * plan.epochs, patience=2 * plan.epochs
    ),
    "steps of 8 lines": lambda plan: replace(plan, batch=plan.batch // 2),
}
CHANGES: Mapping[str, Callable[[CtcModel, Groups], Groups]] = {
    "normalisation layers trained": normalisations_too,
    "head as slow as the backbone": head_as_backbone,
    "head alone": head_alone,
}


def opened(
    lines: Sequence[TrainingLine], change: Callable[[CtcModel, Groups], Groups] | None
) -> CtcModel:
    """Return the embedded model, ready to learn the lines."""
    model = open_ctc(None, {character for line in lines for character in line.text})
    if change is not None:
        usual = model.parameters
        vars(model)["parameters"] = lambda: change(model, usual())
    return model


def main() -> None:
    """Measure, and show a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path, metavar="ZIP")
    parser.add_argument("--lines", type=int, default=500, help="lines to learn")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="names of levers")
    parser.add_argument("--out", type=Path, default=Path("levers.json"))
    chosen = parser.parse_args()

    order = np.random.default_rng(chosen.seed).permutation
    pool = lines_of(chosen.archive, TRAIN)
    lines = [pool[number] for number in order(len(pool))[: chosen.lines]]
    held = lines_of(chosen.archive, VALIDATION)
    held = [held[number] for number in order(len(held))[:MOST_LINES]]
    known: dict[str, list[float]] = (
        json.loads(chosen.out.read_text()) if chosen.out.exists() else {}
    )
    for name in chosen.only or [*PLANS, *CHANGES]:
        if name in known:
            continue
        model = opened(lines, CHANGES.get(name))
        plan = usual_plan(model, epochs=chosen.epochs, seed=chosen.seed)
        seconds = fine_tune(model, lines, PLANS.get(name, PLANS["as it is"])(plan))
        rates = [seconds]
        for texts in ([], [line.text for line in lines]):
            model.expect(texts)
            rates.append(measure(read_lines(model.engine(), held)).cer)
        known[name] = rates
        chosen.out.write_text(json.dumps(known, indent=2))
    table = Table("lever", "seconds", "CER by the image alone", "with the language model")
    for name, (seconds, alone, helped) in known.items():
        table.add_row(name, f"{seconds:.0f}", f"{alone:.2%}", f"{helped:.2%}")
    Console().print(table)


if __name__ == "__main__":
    main()
