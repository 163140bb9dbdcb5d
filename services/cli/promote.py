"""``docreco models promote|rollback``: put a model into service, and take that back."""

import getpass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Annotated, Any

import typer

from app.engines.models_folder import PromotionError, change_promotions, read_promotions
from app.engines.settings import ModelsSettings
from app.engines.weights import UnexpectedModelError
from services.cli.errors import CommandError, ExitStatus, status_of
from services.cli.model_check import Name, ServableModel, find_known, served_by
from services.cli.options import textual
from services.cli.output import Output, cell, warned
from services.common.domain.trained_models import EMBEDDED, Act, Promotion, in_service

By = Annotated[str, typer.Option(help="Name of the decider; default: your user name.")]
Why = Annotated[str, typer.Option(help="Reason of the decision.")]
CHECK_FIRST = "docreco models check {0} EXPORT compares them; --force --reason WHY goes without."
PICKED_UP = "APIs without OCR_MODEL pick it up within seconds; /readyz says what they serve."


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
        model = find_known(name)
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
        *map(cell, warned(warnings)),
        f"{name} is in service. {PICKED_UP}",
    )


@textual
async def rollback(*, by: By = "", reason: Why = "", output: Output) -> None:
    """Roll back the last promotion: the previous model is served again."""
    act = _act(by, reason)

    def roll_back_last(promotions: list[Promotion]) -> list[Promotion]:
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

    now = _change(roll_back_last)
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
    if (found := find_known(target.model).content_hash) != target.content_hash:
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


def _objection(model: ServableModel, now: Promotion | None) -> str:
    """Return why a model may not replace the one in service; empty where it may."""
    if model.name == EMBEDDED:
        return ""
    decision = model.record.decision if model.record else None
    if (
        decision is None
        or served_by(decision.model_version) != f"{model.name}@{model.content_hash}"
    ):
        return f"{model.name} was not compared with the model in service"
    against = served_by(decision.against)
    if now is None or now.model == EMBEDDED:
        package = f"rapidocr-{version('rapidocr')}"  # brings the weights, for any alphabet
        served, is_against_it = f"{EMBEDDED} of {package}", against.partition("@")[2] == package
    else:
        served = f"{now.model}@{now.content_hash}"
        is_against_it = against == served
    if not is_against_it:
        return f"{model.name} was compared with {decision.against}, and {served} is in service"
    return "; ".join(decision.problems)


def _change(change: Any) -> Promotion | None:
    try:
        return change_promotions(ModelsSettings().models, change)
    except (PromotionError, UnexpectedModelError, OSError) as error:
        raise CommandError(str(error), status=status_of(error)) from error


def _act(by: str, reason: str) -> Act:
    return Act(at=datetime.now(UTC), by=by or getpass.getuser(), reason=reason)
