"""The OCR API, annotators and training tools see the same pixels, whatever a file holds."""

import hashlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from app.images import decode
from services.common.domain.image_formats import sniff
from services.common.domain.labels import Origin
from services.common.domain.normal_form import is_shown_alike
from services.datasets.export import _add
from services.datasets.folder import Folder
from services.datasets.formats.files import TrOcr
from services.datasets.manifest import ManifestRecord
from services.review.pictures import to_picture
from tests.support.images import differing_images, encode, line_image, readable_images

Pixels = NDArray[np.uint8]

IMAGES = {
    name: content
    for name, content in (readable_images("image") | differing_images("image")).items()
    if name != "large"  # the API reads it smaller
}
JPEG_TOLERANCE = 4
"""Of 255: decoders round differently."""

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


def read_by_ocr_api(content: bytes) -> Pixels:
    return decode(content, max_pixels=10**7).pixels


def shown_by_browser(content: bytes) -> Pixels:
    """Return what a browser shows on black: it turns JPEG upright, and has no other formats."""
    found = sniff(content)
    assert found is not None
    assert found.extension in {"png", "jpg", "webp", "gif"}
    with Image.open(BytesIO(content)) as image:
        assert image.mode in {"1", "L", "P", "RGB", "RGBA"}
        assert image.format == "MPO" or not getattr(image, "is_animated", False)
        upright = ImageOps.exif_transpose(image) if found.extension == "jpg" else image
        layer = upright.convert("RGBA")
        black = Image.new("RGBA", layer.size, "black")
        return np.asarray(Image.alpha_composite(black, layer).convert("RGB"))


def shown_on_review_page(content: bytes) -> Pixels:
    return shown_by_browser(to_picture(content).content)


def exported(content: bytes, root: Path) -> Path:
    """Lay an image out as an export does; return its file."""
    record = ManifestRecord(
        sha256=hashlib.sha256(content).hexdigest(), key="k", etag="e", split="train", label="image",
        origin=Origin.ANNOTATION, agreement=None, score=None, engine=None, model_version=None,
        hosts=[],
    )  # fmt: skip
    with Folder(root) as folder:
        _add(TrOcr(folder), record, content)
    (file,) = (root / "image").iterdir()
    assert file.stem == record.sha256
    return file


def read_by_pillow(file: Path) -> Pixels:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def read_by_opencv(file: Path) -> Pixels:
    return np.asarray(cv2.imread(str(file)))[:, :, ::-1]


def check(name: str, seen: Pixels, expected: Pixels) -> None:
    tolerance = JPEG_TOLERANCE if "jpeg" in name.lower() else 0
    assert seen.shape == expected.shape
    assert np.abs(seen.astype(int) - expected.astype(int)).max() <= tolerance


@pytest.mark.parametrize(("name", "content"), IMAGES.items(), ids=IMAGES)
def test_annotator_sees_what_the_ocr_api_reads(name: str, content: bytes) -> None:
    check(name, shown_on_review_page(content), read_by_ocr_api(content))


@pytest.mark.parametrize("read", [read_by_pillow, read_by_opencv])
@pytest.mark.parametrize(("name", "content"), IMAGES.items(), ids=IMAGES)
def test_training_tool_reads_what_the_ocr_api_reads(
    name: str, content: bytes, read: Callable[[Path], Any], tmp_path: Path
) -> None:
    file = exported(content, tmp_path)

    check(name, read(file), read_by_ocr_api(content))
    check(name, read_by_ocr_api(file.read_bytes()), read_by_ocr_api(content))


@pytest.mark.parametrize(("name", "content"), IMAGES.items(), ids=IMAGES)
def test_label_studio_shows_what_the_ocr_api_reads(name: str, content: bytes) -> None:
    if is_shown_alike(content):
        check(name, shown_by_browser(content), read_by_ocr_api(content))
    else:
        assert name not in {"png", "jpeg", "webp", "grey", "gif", "exif-rotated jpeg"}


@pytest.mark.parametrize(
    "name",
    ["png", "jpeg", "webp", "tiff", "bmp", "grey", "1 bit", "palette", "alpha that hides nothing"],
)
def test_file_that_every_reader_reads_alike_is_kept(name: str, tmp_path: Path) -> None:
    assert exported(IMAGES[name], tmp_path).read_bytes() == IMAGES[name]


def test_damaged_file_is_not_shown_alike() -> None:
    assert not is_shown_alike(b"")
    assert not is_shown_alike(encode(Image.new("RGBA", (40, 10)))[:60])
    assert is_shown_alike(line_image("image"))
