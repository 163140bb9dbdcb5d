"""Effects of hostile images on the process through decoding libraries."""

import subprocess
import sys
from pathlib import Path

from tests.support.images import draw_line, encode

ROOT = Path(__file__).parents[3]
DECODE = """
import sys
from app.images import decode
from app.processes import silence_libtiff
silence_libtiff()
print(decode(sys.stdin.buffer.read(), max_pixels=1_000_000).width)
"""


def test_a_damaged_tiff_writes_nothing_into_the_log() -> None:
    line = draw_line("industrie" * 3)
    damaged = bytearray(encode(line.convert("1"), "TIFF", compression="group4"))
    for place in range(100, len(damaged) // 2, 5):
        damaged[place] ^= 0x5A

    done = subprocess.run(  # noqa: S603  our own words
        [sys.executable, "-c", DECODE], cwd=ROOT, input=damaged, capture_output=True, check=True
    )

    assert (done.stdout.split(), done.stderr) == ([b"%d" % line.width], b"")
