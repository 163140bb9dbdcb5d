"""``docreco export``: write annotated images as a data set for training tools."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from services.cli.errors import CommandError, ExitStatus, status_of
from services.cli.limits import limited, open_images
from services.cli.options import GroupBy, OnlyCorrected, UseSplit, tabular, to_splitting
from services.cli.output import Output, Table, cell, counted, warned
from services.cli.progress import progress_bar
from services.common.adapters.object_store import open_object_store, sibling
from services.common.domain.errors import PermanentError
from services.common.domain.image_filter import NO_LIMITS, Limits
from services.common.domain.texts import number_of
from services.common.runtime.settings import S3Settings
from services.datasets.export import ExportSources, Progress, export_again
from services.datasets.export import export as write_export
from services.datasets.grouping import GROUP
from services.datasets.manifest import ExportQuery, Format, Manifest
from services.datasets.push import parse_target, push

LAYOUTS = (
    "hf, trocr, paddleocr, doctr, kraken, parquet, or of pages: page or alto; see docs/datasets.md."
)


Out = Annotated[Path, typer.Option(help="Target folder; an earlier export is replaced.")]
Layout = Annotated[Format | None, typer.Option("--format", help=LAYOUTS)]
Agreement = Annotated[
    float, typer.Option(min=0, max=1, help="Minimum agreement of predicted labels.")
]
OnlyAnnotated = Annotated[bool, typer.Option("--only-annotated", help="No predicted labels.")]
OnlyAgreed = Annotated[
    bool,
    typer.Option("--only-agreed", help="Only texts of two people who agree, or of a reviewer."),
]
Title = Annotated[str | None, typer.Option(help="Of the data set, for its data card.")]
Languages = Annotated[
    list[str] | None, typer.Option(help="Code of a language of the texts: fr; several times.")
]
FromManifest = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Reproduce the export of a manifest.json.")
]
PushTo = Annotated[
    str | None, typer.Option(metavar="S3_URL", help="Upload it to s3://bucket/prefix, too.")
]


@tabular
@limited
async def export(
    *,
    limits: Limits,
    out: Out,
    layout: Layout = None,
    min_agreement: Agreement = 0.9,
    only_annotated: OnlyAnnotated = False,
    only_corrected: OnlyCorrected = False,
    only_agreed: OnlyAgreed = False,
    split: Annotated[str, typer.Option(help="Shares of train, validation, test.")] = "80/10/10",
    group_by: GroupBy = GROUP,
    use_split: UseSplit = False,
    title: Title = None,
    language: Languages = None,
    from_manifest: FromManifest = None,
    push_to: PushTo = None,
    output: Output,
) -> ExitStatus:
    """Write images and labels as a reproducible data set with splits."""
    splitting = to_splitting(split, group_by, use_given=use_split, limits=limits)
    settings = S3Settings()

    async def write(sources: ExportSources, progress: Progress) -> Manifest:
        if from_manifest is not None:
            return await export_again(from_manifest, layout, sources, out, progress)
        query = ExportQuery(
            format=_required(layout),
            bucket=settings.bucket,
            **dict(limits),
            only_annotated=only_annotated,
            only_corrected=only_corrected,
            only_agreed=only_agreed,
            min_agreement=min_agreement,
            split=str(splitting.split),
            group_by=splitting.group_by,
            use_split=splitting.use_given,
            title=title,
            languages=_checked_languages(language or []),
        )
        return await write_export(query, sources, out, progress)

    with _translate_export_errors():
        target = parse_target(push_to, collected=settings.bucket) if push_to else None
        async with (
            open_object_store(settings) as store,
            open_images(NO_LIMITS if from_manifest else limits) as images,
        ):
            with _bar(output.stderr, "exporting") as progress:
                sources = ExportSources(images, store, sibling(store, settings.pages_bucket))
                manifest = await write(sources, progress)
            if target is not None:
                with _bar(output.stderr, "pushing") as progress:
                    await push(out, sibling(store, target[0]), target[1], progress)
    warnings = manifest.warnings
    said = {"out": str(out), "pushed_to": push_to, "warnings": warnings}
    shown = (*_render(manifest, out), *warned(warnings))
    output.print({**said, **manifest.model_dump(mode="json")}, *shown)
    is_whole = not (manifest.lost or manifest.page_images_missing)
    return ExitStatus.OK if is_whole else ExitStatus.INCOMPLETE


def _checked_languages(codes: list[str]) -> tuple[str, ...]:
    for code in codes:
        if not re.fullmatch("[a-z]{2,3}", code):
            message = f"{code!r} is no code of ISO 639, such as fr"
            raise typer.BadParameter(message, param_hint="--language")
    return tuple(codes)


def _required(layout: Format | None) -> Format:
    if layout is None:
        raise typer.BadParameter(f"must be one of {LAYOUTS}", param_hint="--format")
    return layout


@contextmanager
def _bar(console: Console, words: str) -> Iterator[Progress]:
    with progress_bar(console) as bar:
        task = bar.add_task(words, total=None, words="")
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _translate_export_errors() -> Iterator[None]:
    """Translate errors of folder, manifest and disk into CommandError."""
    try:
        yield
    except PermanentError as error:
        raise CommandError(str(error), status=ExitStatus.REFUSED) from error
    except OSError as error:
        message = f"{error.filename or 'the folder'}: {error.strerror or error}"
        raise CommandError(message, status=status_of(error)) from error


def _render(manifest: Manifest, out: Path) -> list[Any]:
    rows = [[cell(name), cell(count)] for name, count in manifest.splits.items()]
    words = [f"{number_of(manifest.images, 'image')} in {out}"]
    if manifest.groups:
        several = manifest.groups_in_several_splits
        words.append(f"{number_of(manifest.groups, 'group')}, {several} in more than one split")
    if manifest.excluded:
        words.append(f"excluded: {counted(manifest.excluded)}")
    if manifest.rewritten:
        words.append(f"rewritten as PNG, as the OCR API reads them: {counted(manifest.rewritten)}")
    if manifest.lost:
        words.append(f"selected, but not readable: {counted(manifest.lost)}")
    if missing := manifest.page_images_missing:
        words.append(
            f"{number_of(missing, 'page')} without image: it is not stored, or changed since"
        )
    left = manifest.since_last
    if left is not None and left.removed:
        words.append(f"removed since the last export: {len(left.removed)}; README.md names them")
    return [Table("Data set", ("split", "images"), rows), *words]
