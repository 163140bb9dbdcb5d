"""Quality and cost of line detection on pages with known lines.

``python -m tests.bench.pages ZIP… [--json] [--no-read]`` reads archives of page images with ALTO or
PAGE XML beside each. The measures are those of ``docreco pages evaluate``
(``services/quality/line_finding.py``), of all lines of an archive, and seconds of one core a page,
by step.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import cv2
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from app.engines.base import Engine
from app.engines.loading import load_engine
from services.cli.page_evaluation import COUNTS, read_line
from services.common.domain.ground_truth.reading import placed, read_transcript
from services.common.domain.page import Line
from services.quality.line_finding import Finding, KnownLine, compare_lines, read_both
from services.segmenter.detection import Detector, Pixels, load_detector
from services.segmenter.pictures import DecodedPage, cut_lines
from services.segmenter.reading_order import reading_order


def main() -> int:
    """Measure each archive and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archives", nargs="+", type=Path, metavar="ZIP")
    parser.add_argument("--side", type=int, default=1280, help="pixels pages are reduced to")
    parser.add_argument("--no-read", action="store_true", help="measure no error rates")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    detector = load_detector(longest_side=arguments.side)
    engine = None if arguments.no_read else load_engine("rapidocr")
    figures = {path.name: measure(detector, engine, path) for path in arguments.archives}
    if arguments.json:
        json.dump(figures, sys.stdout, indent=2)
        return 0
    table = Table("archive", *next(iter(figures.values())))
    for name, row in figures.items():
        table.add_row(name, *map(str, row.values()))
    Console(width=200).print(table)
    return 0


def measure(detector: Detector, engine: Engine | None, archive: Path) -> dict[str, float | None]:
    """Find the lines of every page of an archive, compare them with the known ones, count."""
    total, seconds = Finding(), defaultdict[str, float](float)
    for image, known in _pages(archive):
        started = time.process_time()
        pixels = decode_page(image)
        decoded = time.process_time()
        found = [line.quad for line in detector.find(pixels)]
        quads = [found[at] for at in reading_order(found)]
        detected = time.process_time()
        cut_lines(DecodedPage(pixels, ()), [Line(quad=quad) for quad in quads])
        seconds["decode s"] += decoded - started
        seconds["detect s"] += detected - decoded
        seconds["cut s"] += time.process_time() - detected
        finding = compare_lines(known, quads)
        if engine is not None:
            read_both(finding, Image.fromarray(pixels), known, quads, partial(read_line, engine))
        total.add(finding)
    shares = {
        name: value if name in COUNTS or value is None else round(100 * value, 2)
        for name, value in total.figures().items()
    }
    costs = {step: round(took / total.pages, 3) for step, took in seconds.items()}
    return {"pages": total.pages, **shares, **costs, "s/page": round(sum(costs.values()), 3)}


def decode_page(image: bytes) -> Pixels:
    """Decode a page at its full size."""
    with Image.open(BytesIO(image)) as opened:
        return np.asarray(opened.convert("RGB"))


def _pages(archive: Path) -> Iterator[tuple[bytes, list[KnownLine]]]:
    with ZipFile(archive) as zipped:
        images = {Path(name).stem: name for name in zipped.namelist() if name[-4:] != ".xml"}
        for name in sorted(zipped.namelist()):
            if name.endswith(".xml"):
                content = zipped.read(images[Path(name).stem])
                with Image.open(BytesIO(content)) as image:
                    page = placed(read_transcript(zipped.read(name)), *image.size)
                known = (
                    KnownLine.of(each.polygon, each.baseline, each.text) for each in page.lines
                )
                yield content, [line for line in known if line is not None]


if __name__ == "__main__":
    sys.exit(main())
