"""Untrusted files become pixels or a refusal, never anything else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.errors import (
    ImageTooLargeError,
    RefusedError,
    UndecodableImageError,
    UnsupportedMediaTypeError,
)
from app.images import SHORT_SIDE, decode
from tests.support.images import (
    damaged_images,
    draw_line,
    encode,
    foreign_files,
    line_image,
    odd_images,
    oversized_images,
    readable_images,
)

MAX_PIXELS = 25_000_000

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


@pytest.mark.parametrize(
    ("name", "content"), [*readable_images("image").items(), *odd_images().items()]
)
def test_readable_image_becomes_red_green_blue(name: str, content: bytes) -> None:
    image = decode(content, max_pixels=MAX_PIXELS)

    assert image.pixels.ndim == 3
    assert image.pixels.shape[2] == 3
    assert image.pixels.dtype == "uint8"
    assert image.width >= 1
    assert image.height >= 1
    if name.startswith("exif-rotated"):
        assert image.width > image.height


@pytest.mark.parametrize("name", ["transparent paper", "grey with alpha", "webp with alpha"])
def test_transparent_paper_is_white(name: str) -> None:
    image = decode(readable_images("image")[name], max_pixels=MAX_PIXELS)

    assert image.pixels[0, 0].tolist() == [255, 255, 255]
    assert image.pixels.min() < 50


@pytest.mark.parametrize("name", ["16 bits", "12 bits stored in 16", "floats from 0 to 1"])
def test_deep_greys_are_scaled_not_cut_off(name: str) -> None:
    plain = decode(line_image("image"), max_pixels=MAX_PIXELS)
    deep = decode(readable_images("image")[name], max_pixels=MAX_PIXELS)

    difference = abs(deep.pixels.astype(int) - plain.pixels.astype(int))
    assert difference.max() <= 2


def test_large_image_is_reduced_but_its_size_is_reported() -> None:
    line = draw_line("image", font_size=1200)

    image = decode(encode(line), max_pixels=MAX_PIXELS)

    assert (image.width, image.height) == line.size
    assert SHORT_SIDE <= min(image.pixels.shape[:2]) < 2 * SHORT_SIDE


def test_large_jpeg_is_decoded_smaller_and_upright() -> None:
    line = draw_line("large", font_size=1000)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = line.transpose(Image.Transpose.ROTATE_90)

    png = decode(encode(line), max_pixels=MAX_PIXELS)
    jpeg = decode(encode(turned, "JPEG", exif=exif), max_pixels=MAX_PIXELS)

    assert (jpeg.width, jpeg.height) == (png.width, png.height) == line.size
    assert SHORT_SIDE <= jpeg.pixels.shape[0] < line.height / 2
    one, other = (
        np.asarray(Image.fromarray(each.pixels).resize((320, 96)), int) for each in (jpeg, png)
    )
    assert np.abs(one - other).mean() < 3


@pytest.mark.parametrize("content", damaged_images().values(), ids=damaged_images())
def test_damaged_image_is_undecodable(content: bytes) -> None:
    with pytest.raises(UndecodableImageError):
        decode(content, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("content", foreign_files().values(), ids=foreign_files())
def test_foreign_file_is_unsupported(content: bytes) -> None:
    with pytest.raises(UnsupportedMediaTypeError, match="PNG, JPEG"):
        decode(content, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("content", oversized_images().values(), ids=oversized_images())
def test_oversized_image_is_too_large(content: bytes) -> None:
    with pytest.raises(ImageTooLargeError):
        decode(content, max_pixels=MAX_PIXELS)


def test_largest_image_is_decoded_and_one_more_pixel_is_not() -> None:
    content = line_image("image")
    pixels = decode(content, max_pixels=MAX_PIXELS)
    allowed = pixels.width * pixels.height

    assert decode(content, max_pixels=allowed).width == pixels.width
    with pytest.raises(ImageTooLargeError):
        decode(content, max_pixels=allowed - 1)


@given(st.binary(max_size=400))
@settings(max_examples=300)
def test_any_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(RefusedError):
        decode(content, max_pixels=1000)


SEEDS = [line_image("fuzz", font_size=16, image_format=name) for name in ("PNG", "JPEG", "WEBP")]
SEEDS += [line_image("fuzz", font_size=16, image_format=name) for name in ("TIFF", "BMP", "GIF")]


@pytest.mark.slow
@given(st.sampled_from(SEEDS), st.integers(0, 2000), st.binary(min_size=1, max_size=8), st.data())
@settings(max_examples=500)
def test_a_changed_image_is_decoded_or_refused(
    seed: bytes, position: int, change: bytes, data: st.DataObject
) -> None:
    position %= len(seed)
    tail = data.draw(st.sampled_from([seed[position + len(change) :], seed[position:], b""]))

    try:
        image = decode(seed[:position] + change + tail, max_pixels=100_000)
    except RefusedError:
        return

    assert image.width * image.height <= 100_000
