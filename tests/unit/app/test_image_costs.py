"""No image, however it was made, takes more than 300 MB or 2 s."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.hostile_images import is_within
from tests.support.images import encode, odd_images, oversized_images

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]

MEASURE = """
import json, re, sys, time, warnings
from pathlib import Path
from app.engines.loading import load_engine
from app.errors import RefusedError
from app.images import decode

def status(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

warnings.simplefilter("ignore")
engine = load_engine("rapidocr")
costs = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    content = path.read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    before, started = status("VmRSS"), time.process_time()
    try:
        engine.read(decode(content, max_pixels=25_000_000).pixels)
    except RefusedError:
        pass
    costs[path.name] = (status("VmHWM") - before, time.process_time() - started)
print(json.dumps(costs))
"""


def expensive_images() -> dict[str, bytes]:
    rng = np.random.default_rng(7)
    side = 5_000
    noise = rng.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((side, side), Image.Resampling.NEAREST)
    flat = np.zeros((side, side))
    strip = Image.new("RGBA", (side * side // 700, 700), (9, 9, 9, 99))
    return {
        "progressive": encode(photo, "JPEG", progressive=True),
        "cmyk": encode(photo.convert("CMYK"), "TIFF"),
        "16-bit": encode(Image.fromarray(flat.astype(np.uint16)), compress_level=1),
        "floats": encode(Image.fromarray(flat.astype(np.float32)), "TIFF"),
        "strip": encode(strip, compress_level=1),
        "wide": odd_images()["30000 x 10"],
        "tall": odd_images()["10 x 30000"],
        "translucent": odd_images()["as many pixels as allowed"],
        **oversized_images(),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_no_image_costs_more_than_300_mb_and_2_s(tmp_path: Path) -> None:
    images = expensive_images()
    for name, content in images.items():
        (tmp_path / name).write_bytes(content)

    output = subprocess.run(  # noqa: S603  our own script
        [sys.executable, "-c", MEASURE, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout

    costs: dict[str, tuple[int, float]] = json.loads(output.splitlines()[-1])
    assert costs.keys() == images.keys()
    too_expensive = {
        name: (megabytes, seconds)
        for name, (megabytes, seconds) in costs.items()
        if megabytes > 300 or not is_within(seconds, 2)
    }
    assert not too_expensive, costs
