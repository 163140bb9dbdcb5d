"""Images of the review page for browsers, for any object."""

from io import BytesIO
from time import thread_time

import pytest
from PIL import Image

from services.review.pictures import MAX_PIXELS, NotShownError, to_picture
from tests.support.hostile_images import endless_images, is_within
from tests.support.images import encode


def test_conversion_of_an_endless_image_ends_within_2_s() -> None:
    converted = {
        name: content
        for name, content in endless_images().items()
        if "tiff" in name or "bmp" in name
    }
    costs = {}
    for name, content in converted.items():
        started = thread_time()
        with pytest.raises(NotShownError):
            to_picture(content)
        costs[name] = thread_time() - started

    assert is_within(max(costs.values()), 2), costs


@pytest.mark.parametrize("image_format", ["TIFF", "BMP"])
def test_largest_readable_image_is_converted_and_no_larger_one(image_format: str) -> None:
    allowed = Image.new("L", (5_000, MAX_PIXELS // 5_000), "white")
    larger = Image.new("L", (5_000, MAX_PIXELS // 5_000 + 1), "white")

    picture = to_picture(encode(allowed, image_format))

    assert picture.content_type == "image/png"
    with Image.open(BytesIO(picture.content)) as image:
        assert image.size == allowed.size
    with pytest.raises(NotShownError, match="pixels"):
        to_picture(encode(larger, image_format))
