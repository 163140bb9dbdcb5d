"""Quality of line detection on pages with known lines.

``python -m tests.bench.pages ZIP… [--json]`` reads archives of page images with ALTO beside each.
Measures, of all lines of an archive:

* IoU 0.5: recall and precision, one to one, of the found quad against the known polygon;
* covered: known baselines of which at least 80 % lie within one found line (``any``: within all
  together; the difference is ``split``), raised by a quarter of the line's height into the ink;
* merged: known lines that share a found line which covers half of each;
* usable: known lines of which a found line covers 80 %, and of no other line, at IoU 0.3 or more:
  what a person could annotate as it is;
* order: of known lines that follow each other, the share that does so in the order of what was
  found of them;
* seconds of one core a page, by step.
"""

import argparse
import json
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET  # files of our own
from zipfile import ZipFile

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment
from shapely import LineString, Polygon, intersection, make_valid, union_all

from services.common.domain.page import Line
from services.segmenter.detection import Detector, Pixels, load_detector
from services.segmenter.pictures import Picture, cut_lines
from services.segmenter.reading_order import reading_order

COVERED, HALF, SAME, RELATED = 0.8, 0.5, 0.5, 0.3


@dataclass(frozen=True)
class Known:
    """A line as ground truth gives it."""

    polygon: Polygon
    baseline: LineString
    """Raised into the ink."""


@dataclass
class Tally:
    """Counts on the pages of an archive."""

    pages: int = 0
    known: int = 0
    found: int = 0
    same: int = 0
    covered: int = 0
    covered_by_any: int = 0
    merged: int = 0
    usable: int = 0
    pairs: int = 0
    pairs_in_order: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def figures(self) -> dict[str, float]:
        """Return shares in percent, and seconds a page."""

        def share(part: int, whole: int) -> float:
            return round(100 * part / max(1, whole), 1)

        return {
            "pages": self.pages,
            "lines": self.known,
            "recall": share(self.same, self.known),
            "precision": share(self.same, self.found),
            "covered": share(self.covered, self.known),
            "any": share(self.covered_by_any, self.known),
            "split": share(self.covered_by_any - self.covered, self.known),
            "merged": share(self.merged, self.known),
            "usable": share(self.usable, self.known),
            "order": share(self.pairs_in_order, self.pairs),
            **{f"{step} s": round(took / self.pages, 3) for step, took in self.seconds.items()},
            "s/page": round(sum(self.seconds.values()) / self.pages, 3),
        }


def main() -> int:
    """Measure each archive and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archives", nargs="+", type=Path, metavar="ZIP")
    parser.add_argument("--side", type=int, default=1280, help="pixels pages are reduced to")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    detector = load_detector(longest_side=arguments.side)
    figures = {path.name: measure(detector, path).figures() for path in arguments.archives}
    if arguments.json:
        json.dump(figures, sys.stdout, indent=2)
        return 0
    table = Table("archive", *next(iter(figures.values())))
    for name, row in figures.items():
        table.add_row(name, *map(str, row.values()))
    Console(width=200).print(table)
    return 0


def measure(detector: Detector, archive: Path) -> Tally:
    """Find the lines of every page of an archive and compare them with the known ones."""
    tally = Tally()
    for image, known in _pages(archive):
        started = time.process_time()
        pixels = decode_page(image)
        decoded = time.process_time()
        found = [line.quad for line in detector.find(pixels)]
        quads = [found[at] for at in reading_order(found)]
        detected = time.process_time()
        cut_lines(Picture(pixels, ()), [Line(quad=quad) for quad in quads])
        tally.seconds["decode"] += decoded - started
        tally.seconds["detect"] += detected - decoded
        tally.seconds["cut"] += time.process_time() - detected
        compare(tally, known, [Polygon(np.reshape(quad, (4, 2))) for quad in quads])
    return tally


def decode_page(image: bytes) -> Pixels:
    """Decode a page at its full size."""
    with Image.open(BytesIO(image)) as opened:
        return np.asarray(opened.convert("RGB"))


def compare(tally: Tally, known: list[Known], found: list[Polygon]) -> None:
    """Count how what was found on a page fits what is known of it; both in reading order."""
    tally.pages += 1
    tally.known += len(known)
    tally.found += len(found)
    if not known or not found:
        return
    overlaps = np.array([[_iou(line.polygon, each) for each in found] for line in known])
    covers = np.array([[_covered(line.baseline, each) for each in found] for line in known])
    rows, columns = linear_sum_assignment(-overlaps)
    tally.same += int((overlaps[rows, columns] >= SAME).sum())
    tally.covered += int((covers.max(axis=1) >= COVERED).sum())
    everything = union_all([each.buffer(0) for each in found])
    tally.covered_by_any += sum(_covered(line.baseline, everything) >= COVERED for line in known)
    lines_of_found = (covers >= HALF).sum(axis=0)
    tally.merged += int(((covers >= HALF) & (lines_of_found > 1)).any(axis=1).sum())
    alone = (covers >= COVERED) & (lines_of_found == 1) & (overlaps >= RELATED)
    tally.usable += int(alone.any(axis=1).sum())
    places = [int(row.argmax()) if row.max() >= HALF else None for row in covers]
    followed = [(a, b) for a, b in pairwise(places) if a != b]
    pairs = [(a, b) for a, b in followed if a is not None and b is not None]
    tally.pairs += len(pairs)
    met = sorted({place for place in places if place is not None})
    rank = {place: at for at, place in enumerate(met)}
    tally.pairs_in_order += sum(rank[b] - rank[a] == 1 for a, b in pairs)


def _pages(archive: Path) -> Iterator[tuple[bytes, list[Known]]]:
    with ZipFile(archive) as zipped:
        images = {Path(name).stem: name for name in zipped.namelist() if name[-4:] != ".xml"}
        for name in sorted(zipped.namelist()):
            if name.endswith(".xml"):
                yield zipped.read(images[Path(name).stem]), _known_lines(zipped.read(name))


def _known_lines(alto: bytes) -> list[Known]:
    """Return the lines of an ALTO v4 file in pixels; what has no area or baseline is left out."""
    lines = []
    for line in ET.fromstring(alto).iter():  # noqa: S314  data of our own
        if not line.tag.endswith("}TextLine"):
            continue
        outline = next((_points(e.get("POINTS", "")) for e in line.iter() if e.get("POINTS")), None)
        baseline = _points(line.get("BASELINE", ""))
        if outline is None or len(outline) < 3 or len(baseline) < 2:
            continue
        polygon = make_valid(Polygon(outline))
        if polygon.area:
            lines.append(Known(polygon, _raised(baseline, polygon)))
    return lines


def _points(text: str) -> NDArray[np.float64]:
    return np.array([float(each) for each in re.split(r"[\s,]+", text.strip()) if each]).reshape(
        -1, 2
    )


def _raised(baseline: NDArray[np.float64], polygon: Polygon) -> LineString:
    """Move a baseline by a quarter of the line's height to the left of its direction: up."""
    along = baseline[-1] - baseline[0]
    length = float(np.hypot(*along)) or 1.0
    height = polygon.area / length
    upward = np.array([along[1], -along[0]]) / length
    return LineString(baseline + upward * height / 4)


def _iou(one: Polygon, other: Polygon) -> float:
    common = intersection(one, other).area
    return float(common / (one.area + other.area - common)) if common else 0.0


def _covered(baseline: LineString, area: Polygon) -> float:
    return float(intersection(baseline, area).length / max(baseline.length, 1.0))


if __name__ == "__main__":
    sys.exit(main())
