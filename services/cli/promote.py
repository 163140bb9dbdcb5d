"""``docreco models show|compare|check|promote|rollback``: manage the default engine's model."""

import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from app.engines.calibration import CalibrationError
from app.engines.model_record import ModelRecord, change_record, read_record
from app.engines.models_folder import (
    PromotionError,
    change_promotions,
    read_promotions,
    trained_model,
)
from app.engines.settings import ModelsSettings
from app.engines.weights import UnexpectedModelError
from services.cli.errors import EXIT_STATUSES, CommandError, ExitStatus, status_of
from services.cli.options import tabular, textual
from services.cli.output import Output, Table, cell
from services.common.domain.errors import PermanentError
from services.common.domain.texts import number_of
from services.common.domain.trained_models import (
    EMBEDDED,
    Act,
    Decision,
    Part,
    Promotion,
    in_service,
)

By = Annotated[str, typer.Option(help="Name of the decider; default: your user name.")]
Why = Annotated[str, typer.Option(help="Reason of the decision.")]
Name = Annotated[str, typer.Argument(help=f"In the folder of models, or {EMBEDDED}.")]
CHECK_FIRST = "docreco models check {0} EXPORT compares them; --force --reason WHY goes without."
PICKED_UP = "APIs without OCR_MODEL pick it up within seconds; /readyz says what they serve."


@dataclass(frozen=True)
class _Known:
    """A model that the default engine can serve."""

    name: str
    content_hash: str
    record: ModelRecord | None


@tabular
async def show(name: Name, *, output: Output) -> None:
    """Show the origin and quality of a model."""
    model = _find(name)
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
    models = [_find(name), _find(other)]
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
    model = _find(name)
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


@textual
async def promote(
    name: Name,
    *,
    by: By = "",
    reason: Why = "",
    force: Annotated[bool, typer.Option("--force", help="Without the check; say why.")] = False,
    output: Output,
) -> None:
    """Put a model into service: running APIs pick it up by themselves."""
    act, warnings = _act(by, reason), list[str]()

    def put(promotions: list[Promotion]) -> list[Promotion]:
        model = _find(name)
        problem = _objection(model, in_service(promotions))
        if problem and not force:
            raise CommandError(problem, status=ExitStatus.REFUSED, hint=CHECK_FIRST.format(name))
        if problem and not reason:
            raise CommandError("--force needs a --reason", status=ExitStatus.REFUSED)
        if not problem and model.record and model.record.decision:
            warnings.extend(model.record.decision.warnings)
        promotion = Promotion(
            model=model.name,
            content_hash=model.content_hash,
            promoted=act,
            is_forced=bool(problem),
        )
        return [*promotions, promotion]

    promotion = _change(put)
    document = promotion.model_dump(mode="json") if promotion else {}
    output.print(
        {**document, "warnings": warnings},
        *map(cell, _in_words(warnings)),
        f"{name} is in service. {PICKED_UP}",
    )


@textual
async def rollback(*, by: By = "", reason: Why = "", output: Output) -> None:
    """Roll back the last promotion: the previous model is served again."""
    act = _act(by, reason)

    def take_back(promotions: list[Promotion]) -> list[Promotion]:
        if (last := in_service(promotions)) is None:
            raise CommandError(
                "nothing was promoted: the embedded model is in service",
                status=ExitStatus.REFUSED,
            )
        changed = [
            each.model_copy(update={"rolled_back": act}) if each is last else each
            for each in promotions
        ]
        if target := in_service(changed):
            _check_unchanged(target, last)
        return changed

    now = _change(take_back)
    name = now.model if now else EMBEDDED
    output.print({"model": name}, f"{name} is in service again. {PICKED_UP}")


def _check_unchanged(target: Promotion, last: Promotion) -> None:
    """Refuse to put a model into service whose files are not those that were promoted.

    Args:
        target: Its promotion.
        last: The one that is taken back.
    """
    models = ModelsSettings().models
    if target.model != EMBEDDED and not (models / target.model).exists():
        raise CommandError(
            f"{target.model}, in service before {last.model}, is no longer in {models}: nothing "
            "was changed",
            status=ExitStatus.REFUSED,
            hint=f"Copy its folder back, or docreco models promote {EMBEDDED} (the embedded model) "
            "or another one of docreco models list.",
        )
    if (found := _find(target.model).content_hash) != target.content_hash:
        raise CommandError(
            f"{target.model} has changed: promoted was {target.content_hash}, found {found}",
            status=ExitStatus.REFUSED,
            hint=f"Copy its files back, or docreco models promote {EMBEDDED}.",
        )


def promotions_document() -> dict[str, Any]:
    """Return current and earlier promotions, for ``docreco models list``.

    Raises:
        CommandError: The file of promotions is corrupt.
    """
    try:
        promotions = read_promotions(ModelsSettings().models)
    except PromotionError as error:
        raise CommandError(str(error), status=ExitStatus.REFUSED) from error
    now = in_service(promotions)
    return {
        "in_service": now.model if now else EMBEDDED,
        "promotions": [each.model_dump(mode="json") for each in promotions],
    }


def _decide(name: str, exports: list[Path]) -> Decision:
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
    except (
        PermanentError,
        PromotionError,
        CalibrationError,
        UnexpectedModelError,
        OSError,
        ValueError,
    ) as error:
        raise CommandError(str(error), status=status_of(error)) from error


def _keep(name: str, decision: Decision) -> None:
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
        if _served_by(decision.model_version) != f"{name}@{content}":
            raise changed
        return record.model_copy(update={"decision": decision})

    try:
        change_record(models / name, change)
    except FileNotFoundError as error:
        raise changed from error
    except UnexpectedModelError as error:
        raise CommandError(str(error), status=ExitStatus.REFUSED) from error


def _verdict(decision: Decision) -> list[str]:
    """Return the decision in words, the last ones whether the model may be promoted."""
    left_out = f"{number_of(decision.left_out, 'line')} left out: a model was trained on them, or "
    left_out += "chosen by them."
    before = decision.against_calibration_error
    return [
        *([left_out] if decision.left_out else []),
        *_in_words(decision.warnings),
        f"{number_of(decision.images, 'line')}: CER {decision.against_cer:.1%} before, "
        f"{decision.cer:.1%} after, p = {decision.p_value:.3f}; calibration error "
        f"{'unknown' if before is None else f'{before:.1%}'} before, "
        f"{decision.calibration_error:.1%} after. "
        + (f"Not to be promoted: {'; '.join(decision.problems)}" if decision.problems else "OK"),
    ]


def _in_words(warnings: list[str]) -> list[str]:
    return [f"Warning: {each}." for each in warnings]


def _objection(model: _Known, now: Promotion | None) -> str:
    """Return why a model may not replace the one in service; empty where it may."""
    if model.name == EMBEDDED:
        return ""
    decision = model.record.decision if model.record else None
    if (
        decision is None
        or _served_by(decision.model_version) != f"{model.name}@{model.content_hash}"
    ):
        return f"{model.name} was not compared with the model in service"
    if now is None or now.model == EMBEDDED:
        is_against_it = _served_by(decision.against).partition("@")[2].startswith("rapidocr-")
    else:
        is_against_it = _served_by(decision.against) == f"{now.model}@{now.content_hash}"
    if not is_against_it:
        served = EMBEDDED if now is None else f"{now.model}@{now.content_hash}".rstrip("@")
        return f"{model.name} was compared with {decision.against}, and {served} is in service"
    return "; ".join(decision.problems)


def _served_by(model_version: str) -> str:
    """Return name and content of a version, without runtime and calibration."""
    return model_version.partition("+")[0]


def _find(name: str) -> _Known:
    if name == EMBEDDED:
        return _Known(name, "", None)
    try:
        model = trained_model(name, ModelsSettings().models)
        return _Known(model.name, model.content_hash, read_record(model.folder))
    except (FileNotFoundError, ValueError) as error:
        raise CommandError(
            str(error), status=ExitStatus.REFUSED, hint="docreco models list shows all."
        ) from error


def _change(change: Any) -> Promotion | None:
    try:
        return change_promotions(ModelsSettings().models, change)
    except (PromotionError, UnexpectedModelError, OSError) as error:
        raise CommandError(str(error), status=status_of(error)) from error


def _act(by: str, reason: str) -> Act:
    return Act(at=datetime.now(UTC), by=by or getpass.getuser(), reason=reason)


def _parts(title: str, kind: str, parts: Mapping[str, Part]) -> Table:
    rows = [
        [cell(name), cell(images), cell(before, form=".1%"), cell(after, form=".1%")]
        for name, (before, after, images) in parts.items()
    ]
    return Table(title, (kind, "lines", "CER of the model in service", "CER"), rows)


def _metrics(models: list[_Known]) -> Any:
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


def add_commands(app: typer.Typer) -> None:
    """Add them to ``docreco models``."""
    for command in (show, compare, check, promote, rollback):
        app.command(epilog=EXIT_STATUSES)(command)
