"""An image's bytes: only those that the page knows, and only as an image."""

import re
from html import unescape
from io import BytesIO

import pytest
from PIL import Image
from yarl import URL

from services.common.adapters.mongo import Document
from tests.support.images import encode, line_image
from tests.support.review import Person, Site, known


async def stored(review: Site, image: Document, content: bytes) -> URL:
    """Write an object whose type is a lie; return the address of its bytes."""
    etag = await review.store.write(image["key"], content, content_type="text/html", metadata={})
    return URL("/content").with_query(id=image["_id"], etag=etag)


async def test_bytes_that_the_page_does_not_know_are_not_shown_on_it(
    review: Site, ada: Person
) -> None:
    images = [known("seen", 0.1), known("ahead", 0.2)]
    await review.add(*images, with_objects=True)
    pages = [
        *(await ada.see("/queue"), await ada.see("/gallery")),
        await ada.see(f"/image?id={images[0]['_id']}"),
    ]
    shown = [re.findall(r'src="(/content[^"]*)"', page) for page in pages]
    assert [len(addresses) for addresses in shown] == [2, 2, 1]
    addresses = {unescape(address) for addresses in shown for address in addresses}
    assert len(addresses) == 2
    for address in addresses:
        async with ada.client.get(address) as response:
            assert response.headers["Content-Type"] == "image/png"
    for image in images:
        await stored(review, image, line_image("another"))
    for address in addresses:
        assert "changed" in await ada.see(address, status=409)


async def test_every_format_reaches_the_browser(review: Site, ada: Person) -> None:
    for image_format in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"):
        image = known(image_format, 0.1)
        await review.add(image)
        content = line_image("shown", image_format=image_format)
        async with ada.client.get(await stored(review, image, content)) as response:
            assert response.status == 200
            assert response.headers["Content-Type"] in {
                *("image/png", "image/jpeg", "image/webp", "image/gif"),
            }
            assert response.headers["Content-Security-Policy"].startswith("sandbox")
            with Image.open(BytesIO(await response.read())) as shown:
                assert shown.width > shown.height


async def test_deep_grey_tiff_is_not_cut_off(review: Site, ada: Person) -> None:
    image = known("deep", 0.1)
    await review.add(image)
    grey = Image.new("I;16", (30, 10), 40_000)
    async with ada.client.get(await stored(review, image, encode(grey, "TIFF"))) as response:
        with Image.open(BytesIO(await response.read())) as shown:
            assert shown.getpixel((5, 5)) == pytest.approx(156, abs=1)


@pytest.mark.parametrize(
    "content", [b"<script>alert(1)</script>", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b""]
)
async def test_what_is_no_image_is_not_sent(review: Site, ada: Person, content: bytes) -> None:
    image = known("page", 0.1)
    await review.add(image)
    async with ada.client.get(await stored(review, image, content)) as response:
        assert response.status == 415
        assert content not in await response.read() or not content


async def test_rejected_image_is_not_shown(review: Site, ada: Person) -> None:
    error = {"code": "undecodable_image", "detail": "damaged"}
    image = known("rejected", 0.1, status="rejected", prediction=None, error=error)
    await review.add(image)
    await review.store.write(image["key"], line_image("x"), content_type="image/png", metadata={})

    await ada.see(f"/content?id={image['_id']}&etag=e1", status=415)

    assert "/content" not in await ada.see(f"/image?id={image['_id']}")
