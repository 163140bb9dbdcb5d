"""The report's page in a real browser: plots are drawn, and nothing runs or is loaded."""

import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infra.local.as_root import install_packages
from services.cli.report_figures import Figures
from services.cli.report_page import report_page
from services.common.domain.image import ImageDocument
from tests import factories
from tests.support.waiting import DEADLINE_SECONDS

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--window-size=1200,1300"),
)
LIGHT, DARK = "--blink-settings=preferredColorScheme=1", "--blink-settings=preferredColorScheme=0"
UNTIL = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOSTILE = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
Browse = Callable[..., bytes]


@pytest.fixture(scope="session")
def chromium() -> str:
    if shutil.which("chromium") is None:
        install_packages(["chromium"], print)
    found = shutil.which("chromium")
    assert found, "Chromium is needed to look at the page"
    return found


@pytest.fixture
def browse(chromium: str, tmp_path: Path) -> Browse:
    """Return a call that opens the page with some more flags and returns standard output."""

    def call(*flags: str) -> bytes:
        profile = tmp_path / "profile"
        command = [chromium, *FLAGS, f"--user-data-dir={profile}", *flags, f"file://{page}"]
        done = subprocess.run(command, capture_output=True, timeout=DEADLINE_SECONDS, check=True)  # noqa: S603
        return done.stdout

    page = tmp_path / "report.html"
    page.write_text(report_page(_figures(), critical=0.5), encoding="utf-8")
    return call


def _figures() -> Figures:
    since = UNTIL - timedelta(days=7)
    documents = [
        {
            "_id": f"raw/{number}.png",
            "status": "predicted",
            "prediction": {
                "text": HOSTILE,
                "score": 0.2 + 0.6 * (number % 10) / 10,
                "engine": "rapidocr",
                "model_version": "1",
                "predicted_at": since + timedelta(hours=number),
            },
            "annotation": {"text": "Wikipedia", "quality": "ok"} if number % 2 else None,
        }
        for number in range(168)
    ]
    return factories.figures(
        map(ImageDocument.model_validate, documents), since=since, until=UNTIL, low_score=0.5
    )


def colours(png: Path) -> tuple[float, int]:
    """Return the mean brightness of a picture, and how many pixels are of a plot's strong blue."""
    picture = np.asarray(Image.open(png).convert("RGB"), dtype=int)
    red, green, blue = picture[..., 0], picture[..., 1], picture[..., 2]
    is_blue = (blue > red + 60) & (blue > green + 25)
    return float(picture.mean()), int(is_blue.sum())


def test_untrusted_texts_do_not_run(browse: Browse) -> None:
    dom = browse("--dump-dom").decode()
    title = re.search("<title>(.*?)</title>", dom)
    assert title is not None
    assert title[1].startswith("Prediction quality")
    assert "&lt;script&gt;" in dom
    assert "<script" not in dom


@pytest.mark.parametrize(("scheme", "is_dark"), [(LIGHT, False), (DARK, True)])
def test_plots_are_drawn_in_light_and_dark(
    browse: Browse, tmp_path: Path, scheme: str, *, is_dark: bool
) -> None:
    png = tmp_path / "report.png"
    browse(scheme, f"--screenshot={png}")
    brightness, blue = colours(png)
    assert (brightness < 100) == is_dark
    assert blue > 1000
