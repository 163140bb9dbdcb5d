"""Options that several commands have."""

import inspect
from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from typing import Annotated, Any

import typer

from services.cli.errors import ExitStatus
from services.cli.output import Output, run
from services.common.domain.image_filter import Limits
from services.datasets.grouping import GROUPINGS, Splitting

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Dry run: only count, change nothing.")]
Encoding = Annotated[
    str | None, typer.Option(help="Encoding of lists and tables, such as windows-1250.")
]
ColumnOfUrls = Annotated[
    str | None,
    typer.Option(help="Name of the column of URLs, keys or file names; default: detected."),
]
ColumnOfTexts = Annotated[
    str | None, typer.Option(help="Name of the column of texts; default: detected.")
]
OnlyCorrected = Annotated[
    bool,
    typer.Option(
        "--only-corrected",
        help="No text that a person only accepted as a model had read it, or may have.",
    ),
]
GroupBy = Annotated[
    str,
    typer.Option(
        help="Images that have it in common are in one part: "
        f"{', '.join(GROUPINGS)} or metadata.KEY."
    ),
]
UseSplit = Annotated[
    bool, typer.Option("--use-split", help="The part that a data set has given comes first.")
]

Command = Callable[..., Any]
Runnable = Callable[..., Coroutine[Any, Any, ExitStatus | None]]
"""A command that returns its exit status, or None for OK."""


def adding(
    name: str, options: Mapping[str, Any], make: Callable[..., object], *, default: object = None
) -> Callable[[Command], Command]:
    """Return a decorator that adds options to a command, which gets them as one value.

    Args:
        name: Parameter of the command that gets the value.
        options: Their annotations for typer, by name.
        make: Makes the value of theirs.
        default: Of each option.
    """

    def added(command: Command) -> Command:
        @wraps(command)
        def with_options(**values: Any) -> Any:
            made = make(**{each: values.pop(each) for each in options})
            return command(**{name: made}, **values)

        signature = inspect.signature(command)
        if both := signature.parameters.keys() & options.keys():
            raise TypeError(f"{command.__name__} has options already: {', '.join(sorted(both))}")
        own = [each for each in signature.parameters.values() if each.name != name]
        more = [
            inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=of)
            for each, of in options.items()
        ]
        replaced = signature.replace(parameters=[*own, *more])
        with_options.__signature__ = replaced  # type: ignore[attr-defined]  # what typer reads
        return with_options

    return added


def _running(options: Mapping[str, Any]) -> Callable[[Runnable], Command]:
    """Return a decorator that runs a command with the ``output`` of options."""
    add_output = adding("output", options, Output, default=False)

    def running(command: Runnable) -> Command:
        @wraps(command)
        def run_command(*, output: Output, **values: Any) -> None:
            run(output, lambda: command(output=output, **values))

        return add_output(run_command)

    return running


textual = _running({"as_json": AsJson})
"""Decorator of commands whose result is sentences: adds ``--json``."""

tabular = _running(
    {
        "as_json": AsJson,
        "as_csv": Annotated[
            bool, typer.Option("--csv", help="Its tables as CSV, with all rows and whole keys.")
        ],
        "wide": Annotated[
            bool, typer.Option("--wide", help="All rows, whole keys, lines of any length.")
        ],
    }
)
"""Decorator of commands whose result has tables: adds ``--json``, ``--csv`` and ``--wide``."""


def to_splitting(split: str, group_by: str, *, use_given: bool, limits: Limits) -> Splitting:
    """Return the rule that options say.

    Raises:
        typer.BadParameter: The shares or the grouping are invalid.
    """
    try:
        return Splitting.parse(split, group_by, use_given=use_given, limits=limits)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--split, --group-by") from error
