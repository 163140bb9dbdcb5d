"""Take the pictures of README.md, docs/tour.md and docs/training.md.

``python -m infra.pictures [URL]`` opens the review page of ``./run_local.sh`` in Chromium, without
a window, and writes ``docs/images/review-*.png``. It annotates nothing. ``--report FILE`` takes the
picture of a training's report instead. Playwright is a development dependency; Chromium has to be
installed.
"""

import argparse
import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.async_api import Browser, Page, async_playwright

FOLDER = Path(__file__).parents[1] / "docs" / "images"
REVIEW = "http://127.0.0.1:8082"
WIDTH = 1100
REPORT_HEIGHT = 1060
COLOURS = 128
SETTLED_MS = 1500
"""Until what a page loads after itself is there."""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
VIEWS = {
    "review-overview": ("/", 880),
    "review-batch": ("/batches", 640),
    "review-gallery": ("/gallery?order=worst", 700),
    "review-queue": ("/queue", 1180),
    "review-quality": ("/quality", 900),
    "page-review": ("/pages", 720),
    "review-french": ("/", 560),
}
"""Address and height of each picture."""
FRENCH = "review-french"
DARK = "review-gallery"
LINKS = {"review-batch": "table a[href^='/batches/']", "page-review": "td a[href^='/pages/']"}
"""Links of a list, where the picture is of what the last of them leads to."""


async def take(url: str, folder: Path) -> None:
    """Write all pictures."""
    async with _browser() as browser:
        context = await browser.new_context(base_url=url, locale="en-GB")
        page = await context.new_page()
        await page.goto("/login")
        await page.fill("#name", "ada")
        await page.click("button.main")
        for name, (path, height) in VIEWS.items():
            await page.set_viewport_size({"width": WIDTH, "height": height})
            await page.emulate_media(color_scheme="dark" if name == DARK else "light")
            await page.goto(path)
            if name in LINKS:
                await page.locator(LINKS[name]).last.click()
            if name == FRENCH:
                await page.get_by_role("button", name="Fran\u00e7ais").click()
            # Pages renew themselves, so the network is never idle for long
            await page.wait_for_load_state("load")
            await page.wait_for_timeout(SETTLED_MS)
            await _write(page, folder / f"{name}.png")


async def take_report(address: str, folder: Path) -> None:
    """Write the picture of a training's report: error rates, curves and the worst lines."""
    async with _browser() as browser:
        page = await browser.new_page(viewport={"width": WIDTH, "height": REPORT_HEIGHT})
        await page.goto(address)
        # What is between the curves and the lines would fill the picture
        await page.locator("section", has_text="Most frequent errors").evaluate("it => it.remove()")
        await _write(page, folder / "training.png")


@asynccontextmanager
async def _browser() -> AsyncIterator[Browser]:
    async with (
        async_playwright() as playwright,
        await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=FLAGS
        ) as browser,
    ):
        yield browser


async def _write(page: Page, path: Path) -> None:
    """Write what is seen, with few colours, which makes it small."""
    picture = Image.open(BytesIO(await page.screenshot())).convert("RGB")
    picture.quantize(COLOURS).save(path, optimize=True)


def main() -> None:
    """Write the pictures of a running system, or that of a report."""
    parser = argparse.ArgumentParser(prog="python -m infra.pictures", description=__doc__)
    parser.add_argument("url", nargs="?", default=REVIEW, help="of the review page")
    parser.add_argument("--report", type=Path, help="report.html of a training")
    arguments = parser.parse_args()
    if arguments.report:
        asyncio.run(take_report(arguments.report.resolve().as_uri(), FOLDER))
    else:
        asyncio.run(take(arguments.url, FOLDER))


if __name__ == "__main__":
    main()
