"""Pages of text with their transcription, rendered."""

from io import BytesIO

from PIL import Image, ImageDraw

from services.common.domain.ground_truth.transcript import TextLine, Transcript
from services.common.domain.ground_truth.writing import to_alto

WIDTH, LINE_HEIGHT = 400, 40


def page_of(*texts: str | None, image: str = "page.png", seed: int = 0) -> tuple[bytes, Transcript]:
    """Return a page as PNG, each line with a bar of its own length, and its transcription."""
    height = LINE_HEIGHT * (len(texts) + 1)
    pixels = Image.new("RGB", (WIDTH, height), (255, 255, 250 - seed))
    draw = ImageDraw.Draw(pixels)
    lines = []
    for number, text in enumerate(texts):
        top, right = LINE_HEIGHT * (number + 1) - 20, 100 + 40 * number
        draw.rectangle((20, top, right, top + 12), "black")
        polygon = (18, top - 4, right + 2, top - 4, right + 3, top + 16, 18, top + 17)
        baseline = (18, top + 12, right, top + 12)
        lines.append(TextLine(f"l{number}", text, polygon, baseline, "r1", ("Typewritten",)))
    file = BytesIO()
    pixels.save(file, "PNG")
    return file.getvalue(), Transcript("alto", image, WIDTH, height, tuple(lines))


def packed_page(name: str, *texts: str | None, seed: int = 0) -> dict[str, bytes]:
    """Return the files of a page: ``name.png`` and ``name.xml``."""
    content, transcript = page_of(*texts, image=f"{name.rpartition('/')[2]}.png", seed=seed)
    return {f"{name}.png": content, f"{name}.xml": to_alto(transcript)}
