"""Write an export of drawn handwriting, to see what a training does.

``python -m tests.bench.handwriting FOLDER`` writes 300 lines, which the embedded model reads with a
fifth of wrong characters; every fifth line is held out. docs/training.md shows what was learnt.
"""

import argparse
import sys
from pathlib import Path

from services.datasets.manifest import Format, SplitName
from tests.support.exports import write_images
from tests.support.handwriting import handwriting, line_text

LINES = 300
HELD_OUT = 5
"""Every so many lines one is held out."""
DAMAGE = 0.9


def main() -> int:
    """Write the export; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    lines = [
        (_split(number), line_text(number), handwriting(number, damage=DAMAGE))
        for number in range(LINES)
    ]
    write_images(folder, lines, layout=Format.HF)
    sys.stdout.write(f"{len(lines)} lines in {folder}\n")
    return 0


def _split(number: int) -> SplitName:
    return "train" if number % HELD_OUT else "validation"


if __name__ == "__main__":
    sys.exit(main())
