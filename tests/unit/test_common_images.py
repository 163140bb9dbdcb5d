from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.common.images import FORMATS, ImageFormat, sniff


def encoded(image_format: str, **options: object) -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 4), "white").save(file, image_format, **options)
    return file.getvalue()


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.extension)
def test_format_is_told_by_the_first_bytes(known: ImageFormat) -> None:
    content = encoded(known.pillow_name)

    assert sniff(content) == known


@pytest.mark.parametrize("name", ["PNG", "JPEG", "TIFF", "BMP", "GIF"])
def test_image_that_was_cut_off_still_has_its_format(name: str) -> None:
    found = sniff(encoded(name)[:-1])

    assert found is not None
    assert found.pillow_name == name


def test_picture_of_a_phone_is_a_jpeg() -> None:
    more = [Image.new("RGB", (8, 4), "black")]
    content = encoded("MPO", save_all=True, append_images=more)

    assert sniff(content) == FORMATS[1]


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"%PDF-1.7", encoded("PPM")])
def test_anything_else_is_no_image(content: bytes) -> None:
    assert sniff(content) is None


@given(st.binary(max_size=300), st.sampled_from(FORMATS))
def test_hostile_bytes_never_raise(noise: bytes, known: ImageFormat) -> None:
    start = encoded(known.pillow_name)[:30]

    assert sniff(start + noise) in {None, known}
    assert sniff(noise) is None or sniff(noise) in FORMATS
