"""The default engine: the real model on lines that the tests draw."""

import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from statistics import mean

import pytest

from app.engines.base import Engine
from app.engines.loading import load_engine
from app.images import decode
from tests.support.images import line_image, odd_images, readable_images
from tests.support.samples import sample_lines

MAX_PIXELS = 25_000_000

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load_engine("rapidocr")


@pytest.mark.parametrize(
    "content", readable_images("Wikipedia").values(), ids=readable_images("Wikipedia")
)
def test_line_is_read_exactly_in_every_form(engine: Engine, content: bytes) -> None:
    reading = engine.read(decode(content, max_pixels=MAX_PIXELS).pixels)

    assert reading.text == "Wikipedia"
    assert reading.score > 0.8


@pytest.mark.parametrize("content", odd_images().values(), ids=odd_images())
def test_image_without_text_reads_as_nothing_with_no_confidence(
    engine: Engine, content: bytes
) -> None:
    reading = engine.read(decode(content, max_pixels=MAX_PIXELS).pixels)

    assert (reading.text, reading.score) == ("", 0.0)


@pytest.mark.slow
def test_threads_sharing_an_engine_read_what_one_reads(engine: Engine) -> None:
    texts = ["Wikipedia", "industrie", "The quick brown fox", "1789 and 1848", "a"]
    images = [decode(line_image(text), max_pixels=MAX_PIXELS).pixels for text in texts]
    alone = [engine.read(pixels) for pixels in images]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(engine.read, images * 8))

    assert together == alone * 8
    assert [reading.text for reading in alone] == texts


def test_scores_tell_which_samples_are_read_rightly(engine: Engine) -> None:
    scores = defaultdict(list)
    for pixels, text in sample_lines():
        reading = engine.read(pixels)
        scores[reading.text == text].append(reading.score)

    assert mean(scores[True]) > 0.6
    assert mean(scores[False]) < 0.2


def test_version_names_weights_package_runtime_and_precision(engine: Engine) -> None:
    assert engine.name == "rapidocr"
    weights = f"ppocrv6-small-latin@rapidocr-{version('rapidocr')}"
    assert re.fullmatch(
        rf"{re.escape(weights)}\+onnxruntime-f32\+cal-\w{{8}}", engine.model_version
    )
