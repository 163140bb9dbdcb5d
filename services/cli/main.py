"""The command ``docreco``."""

from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group
from typing_extensions import override

from services.cli.errors import EXIT_STATUSES
from services.common.runtime.settings import VERSION

if TYPE_CHECKING:
    from typer._click import Command, Context

COMMANDS = (
    *(
        "submit",
        "watch",
        "images",
        "annotate",
        "suggest",
        "suspects",
        "export",
        "evaluate",
        "report",
    ),
    *(
        "train",
        "loop",
        "reconcile",
        "repredict",
        "calibrate",
        "forget",
        "hosts",
        "doctor",
        "migrate",
    ),
    *("pages", "parked", "models", "label-studio"),
)
"""Each is a module of this package with a function of that name, or an ``app`` of several."""


class _Commands(TyperGroup):
    """Imports a command's module when it is used: all of them together take seconds."""

    @override
    def list_commands(self, ctx: "Context") -> list[str]:
        return [*COMMANDS]

    @override
    def get_command(self, ctx: "Context", cmd_name: str) -> "Command | None":
        # All of them for an unknown name: the error suggests similar ones
        for name in [cmd_name] if cmd_name in COMMANDS else COMMANDS:
            if name not in self.commands:
                self.add_command(_load(name), name)
        return super().get_command(ctx, cmd_name)


def _load(name: str) -> "Command":
    module = import_module(f"services.cli.{name.replace('-', '_')}")
    if hasattr(module, "app"):
        group = get_group(module.app)
        group.name = name  # the help shows this one
        return group
    single = typer.Typer(add_completion=False)
    single.command(epilog=EXIT_STATUSES)(getattr(module, name))
    return get_command(single)


app = typer.Typer(
    name="docreco",
    cls=_Commands,
    help="Collect line images, and manage their predictions and annotations.",
    epilog=EXIT_STATUSES,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)


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
