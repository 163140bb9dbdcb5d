"""Error rates after 500 labels, by how they were chosen: ``python -m tests.bench.suggest ZIP...``.

Each archive has lines and their texts, as ``labels.csv`` with ``file_name``, ``text``, ``document``
and ``part``. Of a random four fifths of the part ``train`` some lines are labelled: suggested ones
(``docreco suggest``), random ones, or those with the lowest scores. The embedded model is trained
on these, and measured on the part ``validation``, which is of other documents. Results are added to
``--out``; those that are there already are not computed again.
"""

import argparse
import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import numpy as np
from rich.console import Console
from rich.table import Table

from app.engines.lines import MODEL_HEIGHT
from app.engines.rapid import load_model
from app.images import measure as size_of
from services.cli.progress import training_progress
from services.common.domain.annotations import collapse
from services.common.domain.trained_models import EMBEDDED
from services.datasets.suggestion import Candidate, order
from services.training.checkpoint import CheckpointFile
from services.training.lines import TRAIN, VALIDATION, TrainingLine
from services.training.measuring import MOST_LINES, LineReading, measure, read_lines
from services.training.plan import TrainingPlan, chosen_device
from services.training.trainee import Trainee, open_base
from services.training.training import FineTuning

POOL = 0.8
LARGEST = 25_000_000
"""Pixels."""


def lines_of(archive: Path, part: str) -> list[TrainingLine]:
    """Return the lines of a part."""
    with ZipFile(archive) as file, TextIOWrapper(file.open("labels.csv"), "utf-8") as labels:
        rows = [row for row in csv.DictReader(labels) if row["part"] == part and row["text"]]
        return [_line(row, file.read(row["file_name"])) for row in rows]


def _line(row: dict[str, str], content: bytes) -> TrainingLine:
    width, height = size_of(content, max_pixels=LARGEST)
    return TrainingLine(
        file=content,
        text=collapse(row["text"]),
        is_annotated=True,
        name=hashlib.sha256(content).hexdigest(),
        group=row["document"],
        licence=None,
        width=max(1, width * MODEL_HEIGHT // height),
    )


def suggested(
    pool: Sequence[LineReading], count: int, _: np.random.Generator
) -> list[TrainingLine]:
    """Choose as ``docreco suggest``."""
    lines = {each.line.name: each.line for each in pool}
    candidates = [
        Candidate(each.line.name, each.line.group, each.score if each.text else None)
        for each in pool
    ]
    return [lines[each.candidate.image] for each in order(candidates, {}, most=count)]


def random_ones(
    pool: Sequence[LineReading], count: int, random: np.random.Generator
) -> list[TrainingLine]:
    """Choose at random."""
    return [pool[number].line for number in random.permutation(len(pool))[:count]]


def worst(pool: Sequence[LineReading], count: int, _: np.random.Generator) -> list[TrainingLine]:
    """Choose the lowest scores."""
    return [each.line for each in sorted(pool, key=lambda each: each.score)[:count]]


CHOICES: dict[
    str, Callable[[Sequence[LineReading], int, np.random.Generator], list[TrainingLine]]
] = {
    "suggested": suggested,
    "random": random_ones,
    "worst first": worst,
}


def usual_plan(trainee: Trainee, *, epochs: int, seed: int) -> TrainingPlan:
    """Return the plan of ``docreco train`` for some epochs, of which the last is kept."""
    return TrainingPlan(
        epochs=epochs,
        batch=16,
        learning_rate=trainee.usual_learning_rate,
        patience=epochs,
        seed=seed,
        device=chosen_device("auto"),
        is_augmented=True,
    )


def fine_tune(trainee: Trainee, lines: Sequence[TrainingLine], plan: TrainingPlan) -> float:
    """Train without a validation split, and return the seconds that it took."""
    with TemporaryDirectory() as folder:
        checkpoint = CheckpointFile(Path(folder, "state.pt"), "bench")
        with training_progress(Console(stderr=True)) as progress:
            course = FineTuning(
                trainee, lines, [], plan, checkpoint=checkpoint, progress=progress
            ).run()
        return sum(epoch.seconds for epoch in course.epochs)


def trained(
    lines: Sequence[TrainingLine], validation: Sequence[TrainingLine], *, epochs: int, seed: int
) -> float:
    """Return the character error rate after a training."""
    trainee = open_base(EMBEDDED, {character for line in lines for character in line.text})
    fine_tune(trainee, lines, usual_plan(trainee, epochs=epochs, seed=seed))
    return measure(read_lines(trainee.engine(), validation)).cer


def main() -> None:
    """Measure, and show a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archives", nargs="+", type=Path, metavar="ZIP")
    parser.add_argument("--labels", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lines", type=int, help="limit of lines of either part")
    parser.add_argument("--out", type=Path, default=Path("suggest.json"))
    chosen = parser.parse_args()

    lines = [line for each in chosen.archives for line in lines_of(each, TRAIN)][: chosen.lines]
    validation = [line for each in chosen.archives for line in lines_of(each, VALIDATION)]
    shuffled = np.random.default_rng(0).permutation(len(validation))
    validation = [validation[number] for number in shuffled[: chosen.lines]][:MOST_LINES]
    engine = load_model(EMBEDDED, threads=2)
    readings = [
        reading
        for start in range(0, len(lines), MOST_LINES)
        for reading in read_lines(engine, lines[start : start + MOST_LINES])
    ]
    rates: dict[str, float] = json.loads(chosen.out.read_text()) if chosen.out.exists() else {}
    rates.setdefault("before", measure(read_lines(engine, validation)).cer)
    for seed in range(chosen.seeds):
        random = np.random.default_rng(seed)
        some = random.permutation(len(readings))[: int(POOL * len(readings))]
        for name, choose in CHOICES.items():
            if (key := f"{name} {seed}") in rates:
                continue
            labelled = choose([readings[number] for number in some], chosen.labels, random)
            rates[key] = trained(labelled, validation, epochs=chosen.epochs, seed=seed)
            chosen.out.write_text(json.dumps(rates, indent=2))
    _show(rates, chosen.seeds)


def _show(rates: dict[str, float], seeds: int) -> None:
    table = Table("choice", "CER, mean", *(f"seed {seed}" for seed in range(seeds)))
    table.add_row("none", f"{rates['before']:.2%}")
    for name in CHOICES:
        values = [rates[f"{name} {seed}"] for seed in range(seeds)]
        table.add_row(name, f"{np.mean(values):.2%}", *(f"{each:.2%}" for each in values))
    Console().print(table)


if __name__ == "__main__":
    main()
