"""``docreco evaluate``: measure models on annotated images."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console

from app.engines.settings import ModelsSettings
from app.settings import EngineName, OcrSettings
from services.cli.errors import CommandError, ExitStatus
from services.cli.limits import limited, open_images
from services.cli.options import GroupBy, OnlyCorrected, UseSplit, tabular, to_splitting
from services.cli.output import Output, Table, cell
from services.cli.progress import progress_bar
from services.cli.report import write_page
from services.common.adapters.object_store import ObjectStore, open_object_store
from services.common.domain.image_filter import ImageFilter, Limits
from services.common.domain.texts import number_of
from services.common.runtime.settings import S3Settings
from services.datasets.evaluation import (
    EvaluatedReading,
    Reader,
    SplitPart,
    StoredReader,
    Use,
    read_annotated,
)
from services.datasets.grouping import GROUP, Splitting
from services.datasets.splits import NAMES

if TYPE_CHECKING:
    from services.datasets.quality import Comparison, ModelQuality
    from services.training.learnt import Learnt

ENGINES: tuple[EngineName, ...] = get_args(EngineName)
LEARNT_PART = "train"
"""The part of which also what a model was trained on counts: it is what was asked for."""


@dataclass
class EvaluatedModel:
    """A model with its samples and the number of unread images."""

    name: str
    samples: list[EvaluatedReading]
    unread: int


@dataclass
class Evaluation:
    """Models on the same images, which all have read and none was trained on."""

    models: list[EvaluatedModel]
    left_out: int = 0
    """Images that were left out, as a model was trained on them."""
    chosen: int = 0
    """Measured images that a model was chosen by."""


@tabular
@limited
async def evaluate(
    *,
    limits: Limits,
    model_version: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="Use the stored predictions of this version."),
    ] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"Read again by {' or '.join(ENGINES)}.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="OTHER", help="Compare with this version or engine.")
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(help="Only images of this split of an export: train, validation, test."),
    ] = None,
    split: Annotated[str, typer.Option(help="Split shares of that export.")] = "80/10/10",
    group_by: GroupBy = GROUP,
    use_split: UseSplit = False,
    only_corrected: OnlyCorrected = False,
    html: Annotated[
        Path | None, typer.Option(help="Write an HTML page with plots to this file.")
    ] = None,
    output: Output,
) -> None:
    """Measure models against annotations: error rates with intervals, calibration, differences."""
    names = _models(model_version, engine, against)
    splitting = to_splitting(split, group_by, use_given=use_split, limits=limits)
    which = _part(part, splitting)
    settings, uses = S3Settings(), Uses()
    async with open_object_store(settings) as store, open_images(limits) as images:
        readers = [await _reader(name, store) for name in names]
        where = ImageFilter(limits, bucket=settings.bucket)
        annotated = read_annotated(
            images, where, readers, which, only_corrected=only_corrected, use_of=uses
        )
        found = await _collect(annotated, readers, output.stderr, part)
    _answer(output, found, uses, html)


def _models(model_version: str | None, engine: str | None, against: str | None) -> list[str | None]:
    """Return the versions or engines to measure; None is the latest prediction."""
    if model_version and engine:
        raise typer.BadParameter("give either a version or an engine", param_hint="--engine")
    if engine and engine not in ENGINES:
        raise typer.BadParameter(f"it is {' or '.join(ENGINES)}", param_hint="--engine")
    if against and against == (engine or model_version):
        raise typer.BadParameter("both are the same model", param_hint="--against")
    return [engine or model_version, *([against] if against else [])]


class Uses:
    """Look-up of what images were to models of the folder of models, as far as that is recorded."""

    def __init__(self) -> None:
        self._known: dict[str, Learnt] = {}
        """By model version."""

    def __call__(self, version: str, sha256: str) -> Use:
        """Return the use of an image for the model of a version."""
        if version not in self._known:
            # Only here: it takes half a second to load
            from services.training.learnt import learnt_by_version  # noqa: PLC0415

            self._known[version] = learnt_by_version(version, ModelsSettings().models)
        learnt = self._known[version]
        if sha256 in learnt.images:
            return Use.TRAINING
        return Use.CHOICE if sha256 in learnt.chosen_by else Use.NONE

    @property
    def unrecorded(self) -> list[str]:
        """Versions of models of which not all training is recorded."""
        return sorted(name for name, each in self._known.items() if not each.is_complete)

    @property
    def choice_unrecorded(self) -> list[str]:
        """Further versions, of models of which it is not recorded what chose them."""
        complete = {name: each for name, each in self._known.items() if each.is_complete}
        return sorted(name for name, each in complete.items() if not each.is_choice_recorded)


def _part(name: str | None, splitting: Splitting) -> SplitPart | None:
    if name is None:
        return None
    if name not in NAMES:
        raise typer.BadParameter(f"it is {', '.join(NAMES)}", param_hint="--part")
    return SplitPart(splitting, name)


async def _reader(name: str | None, store: ObjectStore) -> Reader:
    """Return the engine of a name, otherwise the history of a model version."""
    known = next((each for each in ENGINES if each == name), None)
    if known is None:
        return StoredReader(name)
    # Imported here, as engines load their runtimes
    from services.cli.engine_reader import EngineReader, load  # noqa: PLC0415

    return EngineReader(await load(known), store, max_pixels=OcrSettings().max_image_pixels)


async def _collect(
    annotated: AsyncIterator[tuple[EvaluatedReading | None, ...]],
    readers: Sequence[Reader],
    console: Console,
    part: str | None,
) -> Evaluation:
    """Group samples by model, of images that all models have read and none was trained on."""
    found = Evaluation([EvaluatedModel(reader.name, [], 0) for reader in readers])
    with progress_bar(console) as bar:
        task = bar.add_task("reading", total=None, words="")
        async for samples in annotated:
            is_read_by_all = None not in samples
            uses = {each.use for each in samples if each is not None}
            if is_read_by_all and part != LEARNT_PART and Use.TRAINING in uses:
                found.left_out += 1
                continue
            found.chosen += is_read_by_all and Use.CHOICE in uses
            for model, sample in zip(found.models, samples, strict=True):
                if sample is None:
                    model.unread += 1
                elif is_read_by_all:
                    model.samples.append(sample)
            bar.advance(task)
    if not found.models[0].samples:
        among = f" in {part}" if part else ""
        learnt = f", {_in_words(found.left_out)}" if found.left_out else ""
        raise CommandError(
            f"there is no annotated image{among} that was read by "
            + " and ".join(model.name for model in found.models)
            + learnt,
            status=ExitStatus.REFUSED,
            hint="docreco annotate takes texts from a file; with --part only images of it count.",
        )
    return found


def _in_words(left_out: int) -> str:
    return f"{left_out} left out: a model was trained on them (--part {LEARNT_PART} shows those)"


def _notes(found: Evaluation, uses: Uses) -> list[str]:
    """Return what else has to be known of the figures."""
    notes = [_in_words(found.left_out)] if found.left_out else []
    if found.chosen:
        notes.append(
            f"Warning: {found.chosen} of {number_of(len(found.models[0].samples), 'image')} chose "
            "the weights, the language model and the calibration of a model: it may be worse than "
            "it seems (--part test measures by others)."
        )
    notes += [
        f"Warning: {name} may have learnt these images: it is not recorded from which ones it "
        "learnt, or its files are not in the folder of models any longer."
        for name in uses.unrecorded
    ]
    notes += [
        f"Warning: {name} may have been chosen by these images: that is not recorded, as an "
        "earlier version trained it."
        for name in uses.choice_unrecorded
    ]
    return notes


def _answer(output: Output, found: Evaluation, uses: Uses, html: Path | None) -> None:
    # Imported here, as SciPy takes a second to load
    from services.cli.evaluate_page import evaluation_page  # noqa: PLC0415
    from services.datasets.quality import compare, quality_of  # noqa: PLC0415

    qualities = {model.name: quality_of(model.samples) for model in found.models}
    pair = [model.samples for model in found.models]
    comparison = compare(*pair) if len(pair) > 1 and len(pair[0]) > 1 else None
    notes = _notes(found, uses)
    if html is not None:
        write_page(html, evaluation_page(qualities, comparison, notes))
        output.stderr.print(cell(f"written: {html}"))
    unread = {model.name: model.unread for model in found.models}
    document = {
        "models": {
            name: {**asdict(quality), "unread": unread[name]} for name, quality in qualities.items()
        },
        "comparison": None if comparison is None else asdict(comparison),
        "left_out": found.left_out,
        "chosen": found.chosen,
        "unrecorded": uses.unrecorded,
        "choice_unrecorded": uses.choice_unrecorded,
    }
    output.print(document, *_render(qualities, comparison, unread), *map(cell, notes))


def _render(
    qualities: Mapping[str, "ModelQuality"],
    comparison: "Comparison | None",
    unread: Mapping[str, int],
) -> list[Any]:
    columns = ["model", "images", "not read", "CER", "WER", "exact", "calibration error"]
    rows = [
        [
            *map(cell, (name, quality.images, unread[name])),
            *map(cell, (quality.cer, quality.wer, quality.exact)),
            cell(quality.calibration_error, form=".1%"),
        ]
        for name, quality in qualities.items()
    ]
    figures = ("CER", "WER", "exact")
    numbers = [f"{figure}{bound}" for figure in figures for bound in ("", " low", " high")]
    values = [
        [
            *(name, quality.images, unread[name]),
            *(
                each
                for figure in (quality.cer, quality.wer, quality.exact)
                for each in (figure.value, figure.low, figure.high)
            ),
            quality.calibration_error,
        ]
        for name, quality in qualities.items()
    ]
    as_csv = ([*columns[:3], *numbers, columns[-1]], values)
    shown: list[Any] = [Table("Against what people say", columns, rows, csv=as_csv)]
    first = next(iter(qualities.values()))
    for words, groups in first.groups:
        lines = [
            [
                *(cell(name), cell(each.images)),
                *(cell(rate, form=".1%") for rate in (each.cer, each.exact)),
            ]
            for name, each in groups.items()
        ]
        shown.append(Table(f"By {words}", [words, "images", "CER", "exact"], lines))
    shown += [first.remark] if first.remark else []
    return shown if comparison is None else [*shown, *map(cell, comparison.verdicts)]
