from io import BytesIO
from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.common.domain.image_formats import (
    FORMATS,
    MAX_READS,
    MAX_TAGS,
    ImageFormat,
    TooManyPartsError,
    open_image,
    sniff,
)
from tests.support.hostile_images import endless_images, is_within, tiff


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


def test_no_image_takes_longer_than_a_second_to_be_told() -> None:
    costs = {}
    for name, content in endless_images().items():
        started = thread_time()
        sniff(content)
        costs[name] = thread_time() - started

    assert is_within(max(costs.values()), 1), costs


@pytest.mark.parametrize(
    "content",
    [
        encoded("JPEG")[:2] + (MAX_READS + 1) * b"\xff\xfe\x00\x02" + encoded("JPEG")[2:],
        tiff(MAX_READS + 1, 320, 48, {273: "offsets", 278: 1}),
        tiff(MAX_READS + 1, 320, 48, {273: "offsets", 278: 1}, is_big=True),
        tiff(1, 320, 48, {273: "offsets", **dict.fromkeys(range(1000, 1001 + MAX_TAGS), 1)}),
    ],
    ids=["jpeg", "tiff", "bigtiff", "tiff of many tags"],
)
def test_header_of_too_many_parts_has_no_format(content: bytes) -> None:
    assert sniff(content) is None
    with pytest.raises(TooManyPartsError):
        open_image(content)
