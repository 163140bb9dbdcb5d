"""``docreco models``: models on this machine, trained here or pulled from the hub."""

import shutil
from typing import Annotated, Any

import typer

from app.engines.hub import commit_of
from app.engines.models_folder import CONFIGURATION, WANTED, LocalModel, make_readable, models_in
from app.engines.settings import TROCR_MODEL, TROCR_REVISION, ModelsSettings
from services.cli.errors import EXIT_STATUSES, CommandError, ExitStatus, reason_of
from services.cli.model_check import check, compare, show
from services.cli.options import tabular, textual
from services.cli.output import Output, Table, cell
from services.cli.promote import promote, promotions_document, rollback
from services.common.domain.trained_models import RECORD

EXTRA = "poetry install --extras trocr"
PULLED = ".pulled"
"""Folder of incomplete downloads."""
HUB_NOTES = ".cache"
"""State of huggingface_hub for resumed downloads."""

app = typer.Typer(help="Models on this machine, and which one is served.", no_args_is_help=True)
for command in (show, compare, check, promote, rollback):
    app.command(epilog=EXIT_STATUSES)(command)


@app.command(epilog=EXIT_STATUSES)
@textual
async def pull(
    name: Annotated[str, typer.Argument(help="Name on the Hugging Face hub.")] = TROCR_MODEL,
    *,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch.")] = None,
    output: Output,
) -> None:
    """Download a model from the hub; the API then loads it without the hub."""
    wanted = revision or (TROCR_REVISION if name == TROCR_MODEL else "main")
    model = LocalModel(name, ModelsSettings().models / name)
    if (model.folder / RECORD).exists():
        raise CommandError(
            f"{model.folder} holds a model that was trained here",
            status=ExitStatus.REFUSED,
            hint="Move it away to replace it.",
        )
    _download(name, wanted, model)
    words = f"{model.folder} is ready: set OCR_ENGINE=trocr and OCR_TROCR_MODEL={name}"
    output.print(_document(model), words)


@app.command("list", epilog=EXIT_STATUSES)
@tabular
async def list_models(
    *,
    output: Output,
) -> None:
    """List local models with the model version of their predictions."""
    folder = ModelsSettings().models
    models = [_document(model) for model in models_in(folder)]
    rows = [[cell(value) for value in model.values()] for model in models]
    empty = f"No model in {folder}: docreco train makes one, docreco models pull fetches one."
    columns = ("name", "engine", "model version", "bytes")
    shown = Table(f"Models in {folder}", columns, rows, empty=empty)
    promoted = promotions_document()
    served = f"In service by the default engine: {promoted['in_service']}"
    output.print({"models": models, **promoted}, shown, served)


def _download(name: str, revision: str, model: LocalModel) -> None:
    """Download to a separate folder, so that incomplete models are never used.

    Interrupted downloads of the same commit are resumed.
    """
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415  comes with the extra trocr
        from huggingface_hub.errors import HFValidationError, HTTPError  # noqa: PLC0415
    except ImportError as error:
        raise CommandError(
            "huggingface_hub is not installed", status=ExitStatus.UNAVAILABLE, hint=f"Run {EXTRA}."
        ) from error
    downloads = ModelsSettings().models / PULLED / name
    try:
        # A folder per commit: if the hub does not answer, its client takes an existing folder
        # for the complete model
        commit = commit_of(name, revision)
        pulled = LocalModel(name, downloads / commit)
        snapshot_download(name, revision=commit, local_dir=pulled.folder, allow_patterns=[*WANTED])
    except HFValidationError as error:
        raise CommandError(
            f"{name!r} is not a valid model name", status=ExitStatus.REFUSED
        ) from error
    except (OSError, HTTPError) as error:  # errors of network, hub or disk
        raise _failed(name, revision, error) from error
    _check(pulled, revision)
    shutil.rmtree(model.folder, ignore_errors=True)
    model.folder.parent.mkdir(parents=True, exist_ok=True)
    pulled.folder.rename(model.folder)
    shutil.rmtree(model.folder / HUB_NOTES, ignore_errors=True)
    models = ModelsSettings().models
    above = [each for each in model.folder.parents if each.is_relative_to(models)]
    make_readable(*above, model.folder, *model.folder.rglob("*"))
    shutil.rmtree(downloads)


def _failed(name: str, revision: str, error: Exception) -> CommandError:
    answers = [getattr(each, "response", None) for each in (error, error.__cause__)]
    if response := next((each for each in answers if each is not None), None):
        return CommandError(
            f"the hub refused {name} at {revision} ({response.status_code})",
            status=ExitStatus.REFUSED,
            hint="Look at its page on huggingface.co: name, revision, and whether it is gated.",
        )
    return CommandError(
        f"the hub does not answer: {reason_of(error.__cause__ or error)}",
        status=ExitStatus.UNAVAILABLE,
        hint="Name a proxy (HTTPS_PROXY) or a mirror (HF_ENDPOINT), or pull where there is a way "
        "to the hub, and copy the folder: it is all that is needed.",
    )


def _check(pulled: LocalModel, revision: str) -> None:
    """Refuse models that the engine can't load."""
    names = {path.name for path in pulled.files}
    if CONFIGURATION in names and any(name.endswith(".safetensors") for name in names):
        return
    shutil.rmtree(pulled.folder)
    raise CommandError(
        f"{pulled.name} at {revision} has no {CONFIGURATION}, or no weights as safetensors",
        status=ExitStatus.REFUSED,
        hint="Pickled weights are never loaded; try another revision, such as refs/pr/1.",
    )


def _document(model: LocalModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "engine": "rapidocr" if model.is_for_default_engine else "trocr",
        "model_version": f"{model.name}@{model.content_hash}",
        "size_bytes": model.size_bytes,
    }
