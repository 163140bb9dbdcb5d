"""Format reading reports of lists and tables."""

from collections.abc import Mapping
from typing import Any

from services.cli.output import Table, cell, counted, plain
from services.common.domain.tables.report import Report
from services.common.domain.texts import number_of

SHOWN_NOTES = 20


def render_reading(report: Report) -> list[Table | str]:
    """Return used and ignored columns, and notes to check."""
    shown: list[Table | str] = []
    if report.notes:
        rows = [
            [cell(note.member), cell(note.line), cell(note.code, "yellow"), cell(note.detail)]
            for note in report.notes
        ]
        title = f"{report.note_count} to look at ({counted(report.note_counts)})"
        shown.append(Table(title, ("file", "line", "code", "detail"), rows, most=SHOWN_NOTES))
    words = [f"{report.rows} read, {report.with_text} of them with a text"]
    if report.columns:
        used = ", ".join(f"{name} as {role}" for role, name in report.columns.items())
        words.append(f"columns: {used}")
    others = {"metadata": report.metadata_columns, "ignored": report.ignored_columns}
    words += [f"{kept}: {', '.join(names)}" for kept, names in others.items() if names]
    words += [_of_table(name, said) for name, said in report.tables.items()]
    if report.encoding and report.encoding != "utf-8-sig":
        words.append(f"read as {report.encoding}: look at the accents")
    if report.skipped_lines:
        words.append(f"{number_of(report.skipped_lines, 'line')} above the header skipped")
    if report.texts_without_image:
        words.append(f"{number_of(report.texts_without_image, 'text')} found no image")
    shown.append(plain("; ".join(words)))
    return shown


def _of_table(name: str, said: Mapping[str, Any]) -> str:
    words = f"{name}: {said['images']} of {number_of(said['rows'], 'row')}"
    if used := said["columns"]:
        words += f", columns {', '.join(f'{column} as {role}' for role, column in used.items())}"
    if kept := said.get("metadata_columns"):
        words += f", metadata {', '.join(kept)}"
    if ignored := said["ignored_columns"]:
        words += f", ignored {', '.join(ignored)}"
    return words
