"""Exports of drawn lines, laid out by the real writers and without a server."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from services.common.domain.labels import Origin
from services.datasets.card import data_card
from services.datasets.export import _open_writer
from services.datasets.folder import Folder, replacing
from services.datasets.manifest import (
    FILE,
    RECORDS_FILE,
    ExportQuery,
    Format,
    Manifest,
    ManifestRecord,
    SplitName,
)
from services.datasets.plan import ExportPlan
from tests.support.datasets import STORED_AT
from tests.support.images import line_image

HOSTILE = "=cmd|' /C calc'!A0,\"q\";\u200f[b]../../<b>&amp;\\n é"
Texts = Mapping[SplitName, list[str]]


def write_export(out: Path, texts: Texts, *, layout: Format = Format.HF, **others: Any) -> Path:
    """Write an export with a drawn line for each text; return its folder; see ``write_images``."""
    lines = [(split, text, line_image(text)) for split, some in texts.items() for text in some]
    return write_images(out, lines, layout=layout, **others)


def write_images(
    out: Path,
    lines: Sequence[tuple[SplitName, str, bytes]],
    *,
    layout: Format,
    origin: Origin = Origin.ANNOTATION,
    known: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Write an export of PNG images, each with its split and label; return its folder.

    Args:
        out: The folder.
        lines: Split, label and content of each.
        layout: Of the export.
        origin: Of the labels.
        known: Further fields of the records, by label.
    """
    query = ExportQuery(format=layout, bucket="raw")
    with (
        replacing(out) as staging,
        ExportPlan.open(staging / ".plan") as plan,
        Folder(staging) as folder,
    ):
        writer = _open_writer(layout, folder, STORED_AT)
        records = [
            _record(content, text, split, origin).model_copy(update=known.get(text, {}))
            for split, text, content in lines
        ]
        for record, (_, _, content) in zip(records, lines, strict=True):
            writer.add(record, content, "png")
        writer.finish()
        splits = Counter(record.split for record in records)
        manifest = Manifest(
            created_at=STORED_AT,
            query=query,
            images=splits.total(),
            splits=dict(splits),
            excluded={},
            lost={},
        )
        for record in records:
            folder.append(RECORDS_FILE, record.model_dump_json() + "\n")
        folder.write("README.md", data_card(manifest, plan).encode())
        folder.write(FILE, manifest.model_dump_json().encode())
    return out


def _record(content: bytes, text: str, split: SplitName, origin: Origin) -> ManifestRecord:
    return ManifestRecord(
        sha256=hashlib.sha256(content).hexdigest(),
        key=f"{hashlib.sha256(content).hexdigest()}.png",
        etag="etag",
        split=split,
        label=text,
        origin=origin,
        agreement=None,
        score=None,
        engine=None,
        model_version=None,
        hosts=[],
    )


def jpeg() -> bytes:
    return line_image("right", image_format="JPEG")


def records(out: Path) -> list[dict[str, Any]]:
    """Return the records of an export."""
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def labels(out: Path) -> dict[str, str]:
    """Return the labels of an export by the images' hashes."""
    return {record["sha256"]: record["label"] for record in records(out)}


def files(out: Path) -> dict[str, str]:
    """Return the hashes of an export's files by their paths."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in out.rglob("*")
        if path.is_file()
    }


def check(out: Path) -> None:
    """Check like ``sha256sum --check``, and that there are no other files."""
    lines = (out / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    there = files(out)
    there.pop("SHA256SUMS")
    assert sums == there
