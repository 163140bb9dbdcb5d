"""Draw the sample line images that ``run_local.sh`` serves, their list, and a page.

Run ``python -m infra.local.samples.make`` after a change here. The images are committed, so only
this needs the fonts (docs/decisions/0001-sample-fonts.md); it says how to get them.
"""

import argparse
import csv
import sys
import zlib
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from infra.local.site import FOLDER, LIST_NAME, PAGE_FILE

MISSING_NAME = "introuvable.png"
"""Listed, but never written: the site answers 404."""

FONTS = {
    "book": ("fontpkg-eb-garamond==1.3", "fontpkg_eb_garamond/files/EBGaramond[wght].ttf"),
    "sans": ("fontpkg-source-sans-3==3.52", "fontpkg_source_sans_3/files/SourceSans3[wght].ttf"),
    "typewriter": ("fontpkg-space-mono==1.3", "fontpkg_space_mono/files/SpaceMono-Regular.ttf"),
    "cursive": (
        "fontpkg-dancing-script==2.1",
        "fontpkg_dancing_script/files/DancingScript[wght].ttf",
    ),
    "pen": ("fontpkg-caveat==2.0", "fontpkg_caveat/files/Caveat[wght].ttf"),
    "felt": ("fontpkg-kalam==2.1", "fontpkg_kalam/files/Kalam-Regular.ttf"),
    "scrawl": ("fontpkg-zeyada==1.2", "fontpkg_zeyada/files/Zeyada.ttf"),
}
"""By style: the package that carries the font, and the file inside it."""


@dataclass(frozen=True)
class Look:
    """Degradation of a scanned image."""

    ink: int = 20
    """Grey value of the text, 0 black."""
    paper: int = 255
    """Grey value of the background."""
    noise: float = 0.0
    """Standard deviation of the grain, in grey values."""
    degrees: float = 0.0
    """Rotation, counter-clockwise."""
    blur: float = 0.0
    """Radius in pixels."""
    shrink: float = 1.0
    """Factor of lost resolution."""


CLEAN = Look()
SCAN = Look(ink=45, paper=238, noise=7, degrees=0.6, blur=0.5)
TILTED = Look(ink=50, paper=232, noise=6, degrees=-1.6, blur=0.6)
FADED = Look(ink=178, paper=226, noise=8, degrees=0.3, blur=0.7)
RUINED = Look(ink=95, paper=200, noise=40, degrees=2.0, blur=2.0, shrink=0.5)
PAGE_LOOK = Look(ink=40, paper=240, degrees=0.4, blur=0.4)
DROWNED = Look(ink=120, paper=200, noise=40, degrees=1.2, blur=2.4, shrink=0.5)


@dataclass(frozen=True)
class Sample:
    """One line of text, drawn."""

    name: str
    """File name; its suffix defines the encoding."""
    text: str
    font: str
    size: int = 40
    """Height of the font in pixels."""
    look: Look = CLEAN


SAMPLES = (
    Sample("mot-wikipedia.png", "Wikipedia", "book", 56),
    Sample("mot-industrie.jpg", "industrie", "cursive", 56, SCAN),
    Sample("liberte.png", "Liberté, égalité, fraternité", "book"),
    Sample("noel.png", "Où est passé le père Noël ?", "sans"),
    Sample("guillemets.png", "« Garçon, l'addition s'il vous plaît ! »", "book"),
    Sample("coeur.jpg", "Le cœur a ses raisons que la raison ignore", "sans", 36, SCAN),
    Sample("facture.jpg", "Facture n° 2024-117 : 1 284,50 € TTC", "typewriter", 34, SCAN),
    Sample("quick-fox.png", "The quick brown fox jumps over the lazy dog", "sans", 36),
    Sample(
        "dickens.jpg", "It was the best of times, it was the worst of times", "book", 40, TILTED
    ),
    Sample("train.png", "Departure 18:45, platform 9, coach B", "typewriter", 32),
    Sample("letter.jpg", "Dear Margaret, thank you for your letter", "pen", 48, SCAN),
    Sample("forgeron.png", "C'est en forgeant qu'on devient forgeron", "felt", 40),
    Sample("ete.jpg", "Rendez-vous à l'hôtel près de la forêt", "pen", 48, TILTED),
    Sample("baisers.jpg", "Mille baisers de la plage, à très bientôt", "scrawl", 52, SCAN),
    Sample("recette.jpg", "deux œufs, de la crème et du sucre", "cursive", 44, FADED),
    Sample("smudged.jpg", "The minutes of the meeting were lost", "pen", 44, RUINED),
    Sample("flood.jpg", "Archives municipales, dossier 12", "scrawl", 48, DROWNED),
)

PAGE_SIZE = (1000, 900)
PAGE_LINES = (
    (90, 70, "VILLE DE SAINT-OMER", "book", 40),
    (90, 135, "Archives municipales", "book", 34),
    (620, 215, "le 4 mars 1914", "pen", 44),
    (90, 320, "Monsieur le Maire,", "typewriter", 30),
    (90, 400, "J'ai l'honneur de vous adresser ci-joint", "typewriter", 30),
    (90, 460, "l'inventaire des livres de la paroisse,", "typewriter", 30),
    (90, 520, "déposés au grenier de l'hôtel de ville.", "typewriter", 30),
    (90, 580, "Deux volumes manquent : 1783 et 1786.", "typewriter", 30),
    (560, 720, "Marguerite Lefèvre", "pen", 52),
)
"""Left and top in pixels, text, style and size of font."""

TRUNCATED_NAME = "tronquee.jpg"
TRUNCATED_TEXT = "La fin de cette image manque"
HTML_NAME = "page-web.png"
HTML = b"""<!doctype html>
<html lang="en"><title>Please log in</title><p>This page is not an image.</p></html>
"""


class FontMissingError(Exception):
    """A font is not in the folder; the message says how to get all of them."""

    def __init__(self, path: Path, folder: Path) -> None:
        packages = " ".join(package for package, _ in FONTS.values())
        super().__init__(
            f"no font {path}; get them with: pip install --no-deps --target {folder} {packages}"
        )


def load_font(style: str, size: int, folder: Path) -> ImageFont.FreeTypeFont:
    """Load a font at a size in pixels.

    Raises:
        FontMissingError: It is not in the folder.
    """
    path = folder / FONTS[style][1]
    if not path.exists():
        raise FontMissingError(path, folder)
    # The basic layout is in every build of Pillow; the other one depends on the system
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def draw(sample: Sample, font: ImageFont.FreeTypeFont) -> Image.Image:
    """Draw a sample in grey (deterministic)."""
    look = sample.look
    left, top, right, bottom = font.getbbox(sample.text)
    margin = sample.size // 3
    size = (round(right - left) + 2 * margin, round(bottom - top) + 2 * margin)
    image = Image.new("L", size, look.paper)
    ImageDraw.Draw(image).text((margin - left, margin - top), sample.text, look.ink, font)
    return _aged(image, look, seed=zlib.crc32(sample.name.encode()))


def draw_page(fonts: Path) -> Image.Image:
    """Draw the page in 16 greys (deterministic).

    Raises:
        FontMissingError: A font is not in the folder.
    """
    image = Image.new("L", PAGE_SIZE, PAGE_LOOK.paper)
    ink = ImageDraw.Draw(image)
    for left, top, text, style, size in PAGE_LINES:
        ink.text((left, top), text, PAGE_LOOK.ink, load_font(style, size, fonts))
    aged = _aged(image, PAGE_LOOK, seed=zlib.crc32(PAGE_FILE.name.encode()))
    return aged.quantize(16)


def _aged(image: Image.Image, look: Look, *, seed: int) -> Image.Image:
    """Tilt and blur an image, with grain and lost resolution."""
    if look.degrees:
        image = image.rotate(
            look.degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=look.paper
        )
    if look.blur:
        image = image.filter(ImageFilter.GaussianBlur(look.blur))
    if look.noise:
        image = _grained(image, look.noise, seed=seed)
    if look.shrink < 1:
        image = image.resize([round(side * look.shrink) for side in image.size])
    return image


def _grained(image: Image.Image, deviation: float, *, seed: int) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float64)
    grain = np.random.default_rng(seed).normal(0.0, deviation, pixels.shape)
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


def encode(image: Image.Image, name: str) -> bytes:
    """Encode in the format of the name's suffix."""
    buffer = BytesIO()
    if name.endswith(".jpg"):
        image.save(buffer, "JPEG", quality=72, optimize=True)
    else:
        image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def files(fonts: Path) -> dict[str, bytes]:
    """Return every file of the site by its name, good and bad ones.

    Raises:
        FontMissingError: A font is not in the folder.
    """
    made = {
        sample.name: encode(draw(sample, load_font(sample.font, sample.size, fonts)), sample.name)
        for sample in SAMPLES
    }
    whole = Sample(TRUNCATED_NAME, TRUNCATED_TEXT, "book")
    content = encode(draw(whole, load_font(whole.font, whole.size, fonts)), whole.name)
    made[TRUNCATED_NAME] = content[: len(content) // 2]
    made[HTML_NAME] = HTML
    made[LIST_NAME] = _list()
    return made


def _list() -> bytes:
    """Return the list, its URLs relative to the site; the bad ones have no annotation."""
    table = [(sample.name, sample.text) for sample in SAMPLES]
    table += [(name, "") for name in (MISSING_NAME, HTML_NAME, TRUNCATED_NAME)]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("url", "annotation"))
    writer.writerows(table)
    return text.getvalue().encode()


def main() -> int:
    """Write the site; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.samples.make", description=__doc__)
    parser.add_argument("--fonts", type=Path, default=Path(".local/fonts"), help="their folder")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write")
    arguments = parser.parse_args()
    try:
        made = files(arguments.fonts)
        page = encode(draw_page(arguments.fonts), PAGE_FILE.name)
    except FontMissingError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, content in made.items():
        (arguments.folder / name).write_bytes(content)
    (arguments.folder.parent / PAGE_FILE.name).write_bytes(page)
    total = sum(map(len, made.values()))
    sys.stdout.write(f"{len(made)} files, {total / 1000:.0f} kB in {arguments.folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
