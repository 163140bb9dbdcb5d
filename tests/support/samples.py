"""The bundled sample lines, as engines get them."""

import csv
from functools import cache

from app.images import Pixels, decode
from infra.local.site import FOLDER, LIST_NAME


@cache
def sample_lines() -> tuple[tuple[Pixels, str], ...]:
    """Return the lines whose text is known, and what is right."""
    with (FOLDER / LIST_NAME).open(encoding="utf-8", newline="") as file:
        rows = [(FOLDER / row["url"], row["annotation"]) for row in csv.DictReader(file)]
    return tuple(
        (decode(path.read_bytes(), max_pixels=25_000_000).pixels, right)
        for path, right in rows
        if right
    )
