"""``docreco models show|compare|check``: what is known of models, and which one is better."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from app.engines.calibration import CalibrationError
from app.engines.model_record import ModelRecord, change_record, read_record
from app.engines.models_folder import PromotionError, trained_model
from app.engines.settings import ModelsSettings
from app.engines.weights import UnexpectedModelError
from services.cli.errors import CommandError, ExitStatus, status_of
from services.cli.options import tabular
from services.cli.output import Output, Table, cell, warned
from services.common.domain.errors import PermanentError
from services.common.domain.texts import number_of
from services.common.domain.trained_models import EMBEDDED, ComparedRates, PromotionDecision

Name = Annotated[str, typer.Argument(help=f"In the folder of models, or {EMBEDDED}.")]


@dataclass(frozen=True)
class ServableModel:
    """A model that the default engine can serve."""

    name: str
    content_hash: str
    record: ModelRecord | None


@tabular
async def show(name: Name, *, output: Output) -> None:
    """Show the origin and quality of a model."""
    model = find_known(name)
    record = model.record
    document: dict[str, Any] = record.model_dump(mode="json") if record else {"model": name}
    rows = [
        [cell(field), cell(value)]
        for field, value in document.items()
        if field not in {"metrics", "history", "calibration", "decision"}
        and value not in ("", [], None)
    ]
    rows += [[cell("trained from"), cell(each["model"])] for each in document.get("history", [])]
    output.print(
        document,
        Table(name, ("field", "value"), rows),
        *([_metrics([model])] if record else []),
        *map(cell, _verdict(record.decision) if record and record.decision else []),
    )


@tabular
async def compare(name: Name, other: Name, *, output: Output) -> None:
    """Compare what two trainings measured; docreco evaluate measures on the same images."""
    models = [find_known(name), find_known(other)]
    document = {
        each.name: each.record.model_dump(mode="json") if each.record else None for each in models
    }
    same = len({each.record.export_sha256 for each in models if each.record}) == 1
    words = "" if same else "They were measured on different exports."
    output.print(document, _metrics(models), *([words] if words else []))


@tabular
async def check(
    name: Name,
    exports: Annotated[list[Path], typer.Argument(help="Folders of docreco export.")],
    *,
    output: Output,
) -> ExitStatus:
    """Decide whether a model is better than the one in service, on lines never learnt from."""
    model = find_known(name)
    if model.record is None:
        raise CommandError(f"nothing is known of the training of {name}", status=ExitStatus.REFUSED)
    decision = _decide(model.name, exports)
    _keep(model.name, decision)
    output.print(
        decision.model_dump(mode="json"),
        _parts(name, "source", decision.by_source),
        *([_parts(name, "tag", decision.by_tag)] if decision.by_tag else []),
        *map(cell, _verdict(decision)),
    )
    return ExitStatus.INCOMPLETE if decision.problems else ExitStatus.OK


def find_known(name: str) -> ServableModel:
    """Return a model by its name.

    Raises:
        CommandError: It is not there, or its record is damaged.
    """
    if name == EMBEDDED:
        return ServableModel(name, "", None)
    try:
        model = trained_model(name, ModelsSettings().models)
        return ServableModel(model.name, model.content_hash, read_record(model.folder))
    except (FileNotFoundError, ValueError) as error:
        raise CommandError(
            str(error), status=ExitStatus.REFUSED, hint="docreco models list shows all."
        ) from error


def _decide(name: str, exports: list[Path]) -> PromotionDecision:
    # Only here: they take a second to load
    from app.engines.rapid import load, load_model  # noqa: PLC0415
    from services.training.gate import HeldOut, decide  # noqa: PLC0415
    from services.training.learnt import learnt_by_version  # noqa: PLC0415
    from services.training.lines import read_held_out  # noqa: PLC0415

    models = ModelsSettings().models

    try:
        held_out = [HeldOut(folder.name, *read_held_out(folder)) for folder in exports]
        candidate, current = load_model(name, threads=1), load(threads=1)
        one, other = (
            learnt_by_version(each.model_version, models) for each in (candidate, current)
        )
        return decide(candidate, current, held_out, one | other)
    except (PermanentError, PromotionError, CalibrationError, OSError, ValueError) as error:
        raise CommandError(str(error), status=status_of(error)) from error


def _keep(name: str, decision: PromotionDecision) -> None:
    """Store a decision in the record of its model.

    Raises:
        CommandError: Another model has the name by now, or none.
    """
    models = ModelsSettings().models
    changed = CommandError(
        f"{name} has changed while it was checked: the decision was not kept",
        status=ExitStatus.REFUSED,
        hint="Check it again.",
    )

    def change(record: ModelRecord) -> ModelRecord:
        content = trained_model(name, models).content_hash
        if served_by(decision.model_version) != f"{name}@{content}":
            raise changed
        return record.model_copy(update={"decision": decision})

    try:
        change_record(models / name, change)
    except FileNotFoundError as error:
        raise changed from error
    except UnexpectedModelError as error:
        raise CommandError(str(error), status=ExitStatus.REFUSED) from error


def served_by(model_version: str) -> str:
    """Return name and content of a version, without runtime and calibration."""
    return model_version.partition("+")[0]


def _verdict(decision: PromotionDecision) -> list[str]:
    """Return the decision in words, the last ones whether the model may be promoted."""
    left_out = f"{number_of(decision.left_out, 'line')} left out: a model was trained on them, or "
    left_out += "chosen by them."
    before = decision.against_calibration_error
    return [
        *([left_out] if decision.left_out else []),
        *warned(decision.warnings),
        f"{number_of(decision.images, 'line')}: CER {decision.against_cer:.1%} before, "
        f"{decision.cer:.1%} after, p = {decision.p_value:.3f}; calibration error "
        f"{'unknown' if before is None else f'{before:.1%}'} before, "
        f"{decision.calibration_error:.1%} after. "
        + (f"Not to be promoted: {'; '.join(decision.problems)}" if decision.problems else "OK"),
    ]


def _parts(title: str, kind: str, parts: Mapping[str, ComparedRates]) -> Table:
    rows = [
        [cell(name), cell(images), cell(before, form=".1%"), cell(after, form=".1%")]
        for name, (before, after, images) in parts.items()
    ]
    return Table(title, (kind, "lines", "CER of the model in service", "CER"), rows)


def _metrics(models: list[ServableModel]) -> Any:
    rows = [
        [
            *(cell(model.name), cell(split), cell(change.after.images)),
            *(cell(share, form=".1%") for share in (change.before.cer, change.after.cer)),
            *(cell(share, form=".1%") for share in (change.before.exact, change.after.exact)),
        ]
        for model in models
        for split, change in (model.record.metrics if model.record else {}).items()
    ]
    columns = ("model", "split", "images", "CER before", "CER", "exact before", "exact")
    return Table("As measured when they were trained", columns, rows)
