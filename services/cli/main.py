"""The command ``docreco``."""

from typing import Annotated

import typer

from services.cli.annotate import annotate
from services.cli.calibrate import calibrate
from services.cli.doctor import doctor
from services.cli.errors import EXIT_STATUSES
from services.cli.evaluate import evaluate
from services.cli.export import export
from services.cli.forget import forget
from services.cli.hosts import hosts
from services.cli.images import images
from services.cli.label_studio import app as label_studio
from services.cli.migrate import migrate
from services.cli.models import app as models
from services.cli.pages import app as pages
from services.cli.parked import app as parked
from services.cli.reconcile import reconcile
from services.cli.report import report
from services.cli.repredict import repredict
from services.cli.submit import submit
from services.cli.train import train
from services.cli.watch import watch
from services.common.runtime.settings import VERSION

app = typer.Typer(
    name="docreco",
    help="Collect line images, and manage their predictions and annotations.",
    epilog=EXIT_STATUSES,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
for command in (
    *(submit, watch, images, annotate, export, evaluate, report),
    *(train, reconcile, repredict, calibrate, forget, hosts, doctor, migrate),
):
    app.command(epilog=EXIT_STATUSES)(command)
app.add_typer(pages, name="pages")
app.add_typer(parked, name="parked")
app.add_typer(models, name="models")
app.add_typer(label_studio, name="label-studio")


def _show_version(is_asked: bool) -> None:  # noqa: FBT001  typer's form of a callback
    if is_asked:
        typer.echo(f"docreco {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Handle global options."""


if __name__ == "__main__":
    app()
