"""Cutting lines out of pages."""

from math import cos, sin

import pytest
from PIL import Image, ImageChops, ImageDraw, ImageStat

from services.common.domain.line_images import UncuttableLineError, box_of, cut_line, to_webp

STRIPES = [(150, 20, 20), (20, 150, 20), (20, 20, 150)]


def striped(width: int = 240, height: int = 30) -> Image.Image:
    """A line that shows which end is where: red, green, blue; its upper half lighter."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    part = width // len(STRIPES)
    for at, colour in enumerate(STRIPES):
        draw.rectangle(
            (at * part, 0, (at + 1) * part, height // 2), tuple(each + 100 for each in colour)
        )
        draw.rectangle((at * part, height // 2, (at + 1) * part, height), colour)
    return image


def turned(degrees: float) -> tuple[Image.Image, tuple[float, ...], tuple[float, ...]]:
    """Return a page with the line turned counter-clockwise, its polygon and its baseline."""
    page = Image.new("RGB", (400, 400), "white")
    page.paste(striped(), (80, 185))
    page = page.rotate(degrees, Image.Resampling.BICUBIC, fillcolor="white")
    angle = -degrees * 3.141592653589793 / 180

    def place(*points: tuple[float, float]) -> tuple[float, ...]:
        return tuple(
            200 + value
            for x, y in points
            for value in (
                (x - 200) * cos(angle) - (y - 200) * sin(angle),
                (x - 200) * sin(angle) + (y - 200) * cos(angle),
            )
        )

    polygon = place((80, 185), (320, 185), (320, 215), (80, 215))
    return page, polygon, place((80, 208), (200, 208), (320, 208))


def difference(one: Image.Image, two: Image.Image) -> float:
    assert all(abs(mine - its) <= 1 for mine, its in zip(one.size, two.size, strict=True))
    stat = ImageStat.Stat(ImageChops.difference(one.resize(two.size), two))
    return max(stat.mean)


@pytest.mark.parametrize("degrees", [0, 7, -30, 90, 180, -90])
def test_a_line_is_level_along_its_baseline(degrees: float) -> None:
    page, polygon, baseline = turned(degrees)

    assert difference(cut_line(page, polygon, baseline), striped()) < 12


@pytest.mark.parametrize("degrees", [0, 7, -30])
def test_a_box_without_baseline_is_level(degrees: float) -> None:
    page, polygon, _ = turned(degrees)

    assert difference(cut_line(page, polygon), striped()) < 12
    assert box_of(polygon)[:2] == pytest.approx(polygon[:2], abs=1)


def test_a_baseline_drawn_backwards_turns_nothing() -> None:
    page, polygon, baseline = turned(0)
    backwards = (*baseline[4:], *baseline[2:4], *baseline[:2])

    assert difference(cut_line(page, polygon, backwards), striped()) < 2


def test_a_curved_line_becomes_straight() -> None:
    page = Image.new("RGB", (300, 200), "white")
    draw = ImageDraw.Draw(page)
    course = [(20, 150), (150, 60), (280, 150)]
    draw.line(course, "black", 5)
    polygon = (20, 130, 150, 40, 280, 130, 280, 160, 150, 75, 20, 160)

    line = cut_line(page, polygon, tuple(value for point in course for value in point))

    ink = line.convert("L").point(lambda value: 255 if value < 128 else 0)
    box = ink.getbbox()
    assert box is not None
    assert box[3] - box[1] < 25  # on the page it is 90 high
    assert line.width > 300


def test_the_same_line_gives_the_same_bytes() -> None:
    page, polygon, baseline = turned(7)

    assert to_webp(cut_line(page, polygon, baseline)) == to_webp(cut_line(page, polygon, baseline))


@pytest.mark.parametrize("polygon", [(0, 0, 9, 0, 20, 0), (0, 0, 30_000, 0, 30_000, 9)])
def test_a_line_that_no_file_holds_is_refused(polygon: tuple[float, ...]) -> None:
    with pytest.raises(UncuttableLineError):
        cut_line(Image.new("RGB", (50, 50)), polygon)


def test_zigzag_of_a_baseline_does_not_exhaust_the_stack() -> None:
    baseline = [part for at in range(1999) for part in (at / 2, 100 + at * (1 - at % 2 * 2) / 20)]

    with pytest.raises(UncuttableLineError):
        cut_line(Image.new("RGB", (1000, 200)), (0, 90, 1000, 90, 1000, 110, 0, 110), baseline)
