"""Precision and recall of suspect labels on planted errors: ``python -m tests.bench.suspects ZIP``.

The archive has images and ``labels.csv`` (``file_name``, ``text``, ``document``). Each line is read
once by the default engine in this process (``--readings FILE`` keeps the readings). Then 5 % of the
labels are damaged, by all kinds of errors and by each, and all are judged as ``docreco suspects``
does. The labels are taken for right as they are: an error that was there before is a false alarm.
"""

import argparse
import csv
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from zipfile import ZipFile

from rich.console import Console
from rich.progress import track
from rich.table import Table

from app.engines.loading import load_engine
from app.images import decode
from app.settings import OcrSettings
from services.common.domain.image import ImageDocument
from services.quality.suspects import Norms, Reason

SEED = 7
SHARE = 0.05
MAX_PIXELS = 25_000_000
SWAPPED = "swapped"

Line = Mapping[str, str | float]
Damage = Callable[[str, random.Random], str]


def cut(text: str, chance: random.Random) -> str:
    """Take a quarter to a half away, at the beginning or the end."""
    kept = max(1, round(len(text) * chance.uniform(0.5, 0.75)))
    return text[:kept] if chance.random() < 0.5 else text[-kept:]


def misencode(text: str, _: random.Random) -> str:
    """Read the bytes of UTF-8 as Windows-1252."""
    return text.encode().decode("cp1252", errors="replace")


def replace_accents(text: str, _: random.Random) -> str:
    """Write a question mark or nothing known for what ASCII lacks."""
    return text.encode("ascii", errors="replace").decode()


def replace_letters(text: str, chance: random.Random) -> str:
    """Replace three letters of ten by others."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return "".join(chance.choice(letters) if chance.random() < 0.3 else each for each in text)


DAMAGES: Mapping[str, Damage] = {
    "cut": cut,
    "wrong encoding": misencode,
    "accents lost": replace_accents,
    "letters replaced": replace_letters,
}


def read(archive: Path) -> list[Line]:
    """Read every line with the default engine."""
    engine = load_engine(OcrSettings().engine)
    lines: list[Line] = []
    with ZipFile(archive) as opened, opened.open("labels.csv") as file:
        for row in track(list(csv.DictReader(TextIOWrapper(file, "utf-8"))), "reading"):
            pixels = decode(opened.read(row["file_name"]), max_pixels=MAX_PIXELS).pixels
            made = engine.read(pixels)
            height, width = pixels.shape[:2]
            shape = {"width": width, "height": height}
            lines.append({**row, "read": made.text, "score": float(made.score), **shape})
    return lines


def document_of(line: Line, text: str) -> ImageDocument:
    """Return what MongoDB would have of a line."""
    return ImageDocument.model_validate(
        {
            "_id": f"raw/{line['file_name']}",
            "status": "predicted",
            "width": line["width"],
            "height": line["height"],
            "annotation": {"text": text, "by": "batch:bench"},
            "prediction": {"text": line["read"], "score": line["score"]},
        }
    )


def plant(lines: Sequence[Line], kinds: Sequence[str], chance: random.Random) -> dict[int, str]:
    """Return damaged texts of 5 % of the lines, as many of each kind, by number of the line."""
    texts = [str(line["text"]) for line in lines]
    left = chance.sample(range(len(lines)), len(lines))
    planted: dict[int, str] = {}
    for kind in kinds:
        wanted = round(SHARE * len(lines) / len(kinds))
        if kind == SWAPPED:
            chosen = left[:wanted]
            others = zip(chosen, [*chosen[1:], *chosen[:1]], strict=True)
            damaged = {one: texts[other] for one, other in others}
        else:
            made = ((number, DAMAGES[kind](texts[number], chance)) for number in left)
            changed = ((number, text) for number, text in made if text != texts[number])
            damaged = dict(islice(changed, wanted))
        planted |= damaged
        left = [number for number in left if number not in damaged]
    return planted


def judged(lines: Sequence[Line], planted: Mapping[int, str]) -> dict[int, list[Reason]]:
    """Return the reasons against each suspect line."""
    documents = [
        document_of(line, planted.get(number, str(line["text"])))
        for number, line in enumerate(lines)
    ]
    norms = Norms.of(documents)
    found = {number: norms.reasons(document) for number, document in enumerate(documents)}
    return {number: reasons for number, reasons in found.items() if reasons}


def table(lines: Sequence[Line]) -> Table:
    """Return precision and recall by kind of error and by reason."""
    made = Table(title=f"{len(lines)} lines, {SHARE:.0%} of them damaged, seed {SEED}")
    for name in ("damage", "found", "recall", "precision", "right of all, by reason"):
        made.add_column(name)
    every = (SWAPPED, *DAMAGES)
    runs = {"none": (), "all kinds": every, **{kind: (kind,) for kind in every}}
    for name, kinds in runs.items():
        planted = plant(lines, kinds, random.Random(SEED))  # noqa: S311  nothing secret
        found = judged(lines, planted)
        right = found.keys() & planted.keys()
        shares = [f"{len(right) / max(1, len(those)):.0%}" for those in (planted, found)]
        made.add_row(name, f"{len(right)} of {len(planted)}", *shares, _by_reason(found, right))
    return made


def _by_reason(found: Mapping[int, list[Reason]], right: AbstractSet[int]) -> str:
    every = Counter(reason for reasons in found.values() for reason in reasons)
    hits = Counter(reason for number in right for reason in found[number])
    return ", ".join(f"{name} {hits[name]}/{every[name]}" for name in Reason if every[name])


def main() -> None:
    """Read, plant, judge, and show the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--readings", type=Path, help="file that keeps them; written if missing")
    arguments = parser.parse_args()
    kept: Path | None = arguments.readings
    if kept is not None and kept.exists():
        lines = json.loads(kept.read_text())
    else:
        lines = read(arguments.archive)
        if kept is not None:
            kept.write_text(json.dumps(lines, ensure_ascii=False))
    random.Random(SEED).shuffle(lines)  # noqa: S311  nothing secret
    Console().print(table(lines))


if __name__ == "__main__":
    main()
