"""The model in rapidocr's wheel, computed in other ways than rapidocr's own."""

from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidocr import RapidOCR

from app.engines import rapid, runtimes, weights
from app.engines.alphabet import is_allowed
from app.engines.base import EngineReading
from app.engines.lines import to_reading
from app.engines.rapid import RapidEngine
from app.engines.runtimes import UnavailablePrecisionError, declared_flags, open_onnxruntime
from app.engines.weights import BLANK, UnexpectedModelError, load_weights
from app.images import Pixels, decode
from services.common.domain.accuracy import character_errors
from tests.support.images import line_image
from tests.support.samples import sample_lines

MAX_PIXELS = 25_000_000
NEAR = 1e-3
SAME = 1e-4
"""Tolerance of scores that differ only by processor or f32 runtime."""

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::PIL")]


class Load(Protocol):
    """Loads an engine once."""

    def __call__(self, runtime: str, alphabet: str, precision: str = "f32") -> RapidEngine: ...


@pytest.fixture(scope="module")
def load() -> Load:
    @cache
    def loaded(runtime: str, alphabet: str, precision: str = "f32") -> RapidEngine:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OCR_RUNTIME", runtime)
            patch.setenv("OCR_PRECISION", precision)
            patch.setenv("OCR_ALPHABET", alphabet)
            patch.setenv("OCR_CALIBRATION", "none")
            engine = rapid.load(threads=2)
        assert isinstance(engine, RapidEngine)
        return engine

    return loaded


def read_all(engine: RapidEngine) -> list[EngineReading]:
    return engine.read_many([pixels for pixels, _ in sample_lines()])


def error_rate(readings: list[EngineReading]) -> float:
    counts = [
        character_errors(reference=right, hypothesis=reading.text)
        for reading, (_, right) in zip(readings, sample_lines(), strict=True)
    ]
    return sum(each.errors for each in counts) / sum(each.characters for each in counts)


@pytest.fixture(scope="module")
def own() -> Callable[[Pixels], EngineReading]:
    """Return how rapidocr itself reads."""
    folder = find_spec("rapidocr")
    assert folder is not None
    assert folder.submodule_search_locations
    path = Path(folder.submodule_search_locations[0]) / "models" / weights.MODEL_FILE
    reader = RapidOCR(
        params={
            "Global.use_det": False,
            "Global.use_cls": False,
            "Global.use_preprocess_img": False,
            "Global.log_level": "critical",
            "Rec.model_path": str(path),
        }
    )

    def read(pixels: Pixels) -> EngineReading:
        result: Any = reader(np.ascontiguousarray(pixels[:, :, ::-1]))
        return EngineReading(result.txts[0], result.scores[0])

    return read


def test_whole_model_reads_what_rapidocr_reads(
    load: Load, own: Callable[[Pixels], EngineReading]
) -> None:
    low = [pixels for pixels, _ in sample_lines() if pixels.shape[0] < 96]
    lines = [decode(line_image(text), max_pixels=MAX_PIXELS).pixels for text in ("a", "1789 été")]
    assert len(low) > 3
    engine = load("onnxruntime", "all")

    wide = [cv2.resize(each, (900, 60)).astype(np.uint8, copy=False) for each in low]
    tinted = [(each * (0.3, 0.6, 1.0)).astype(np.uint8) for each in lines]
    for pixels in [*low, *lines, *wide, *tinted]:
        expected, reading = own(pixels), engine.read(pixels)
        assert reading.text == expected.text
        assert reading.score == pytest.approx(expected.score, abs=NEAR)


@pytest.mark.parametrize("alphabet", ["latin", "all"])
def test_openvino_reads_what_onnxruntime_reads(load: Load, alphabet: str) -> None:
    pairs = zip(
        read_all(load("openvino", alphabet)), read_all(load("onnxruntime", alphabet)), strict=True
    )

    for one, other in pairs:
        assert one.text == other.text
        assert one.score == pytest.approx(other.score, abs=SAME)


def test_bfloat16_reads_sure_lines_alike_or_is_refused(load: Load) -> None:
    """Of poor lines it makes other nonsense."""
    if not {"amx_bf16", "avx512_bf16"} & declared_flags(runtimes.PROCESSORS):
        with pytest.raises(UnavailablePrecisionError, match="OCR_PRECISION=f32"):
            load("openvino", "latin", "bf16")
        return
    engine, exact = load("openvino", "latin", "bf16"), load("onnxruntime", "latin")

    for one, other in zip(read_all(engine), read_all(exact), strict=True):
        if other.score > 0.8:
            assert one.text == other.text
        assert one.score == pytest.approx(other.score, abs=0.1)


def test_alphabet_makes_no_reading_worse(load: Load) -> None:
    whole, latin = load("onnxruntime", "all"), load("onnxruntime", "latin")

    assert error_rate(read_all(latin)) <= error_rate(read_all(whole))


def test_smaller_alphabet_never_lowers_scores_of_equal_texts(load: Load) -> None:
    whole, latin = load("onnxruntime", "all"), load("onnxruntime", "latin")
    pairs = [
        (one, other)
        for one, other in zip(read_all(latin), read_all(whole), strict=True)
        if one.text == other.text
    ]

    assert len(pairs) > len(sample_lines()) / 2
    for one, other in pairs:
        assert one.score >= other.score - 1e-4
        assert one.score == pytest.approx(other.score, abs=0.05)


def test_sign_outside_the_alphabet_is_never_read(load: Load) -> None:
    random = np.random.default_rng(3)
    characters = load("onnxruntime", "latin")._characters
    noise = random.integers(0, 255, (48, 640, 3), np.uint8)

    assert len(characters) < 500
    assert set(load("onnxruntime", "latin").read(noise).text) <= set(characters.tolist())


@pytest.mark.parametrize(
    "text",
    [
        "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789",
        "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
        "àâäçéèêëîïôöùûüÿœæ ÀÂÄÇÉÈÊËÎÏÔÖÙÛÜŸŒÆ",
        "ñ¿¡ßąćęłńóśźżčďěňřšťůžőűășțØøÅåÞþÐð",
        "«» “” ‘’ – — … € £ ° § ©",  # noqa: RUF001
    ],
)
def test_alphabet_has_what_a_latin_line_needs(text: str) -> None:
    known = set(load_weights("all").characters.tolist())
    kept = set(load_weights("latin").characters.tolist())

    assert all(is_allowed(each, "latin") for each in text)
    assert set(text) & known <= kept
    assert set(text) - known <= {"¡"}  # the model never learnt it


@pytest.mark.parametrize("character", ["の", "中", "Ω", "Я", "①", "★", "→"])
def test_alphabet_has_no_other_script(character: str) -> None:
    assert not is_allowed(character, "latin")
    assert is_allowed(character, "all")


def test_blank_stays_first_and_space_last() -> None:
    for weights_of in (load_weights("latin"), load_weights("all")):
        assert (weights_of.characters[0], weights_of.characters[-1]) == (BLANK, " ")


def test_model_version_names_alphabet_runtime_and_precision(load: Load) -> None:
    package = f"@rapidocr-{version('rapidocr')}"

    assert {
        load(runtime, alphabet).model_version
        for runtime in ("onnxruntime", "openvino")
        for alphabet in ("latin", "all")
    } == {
        f"ppocrv6-small{alphabet}{package}+{runtime}-f32"
        for runtime in ("onnxruntime", "openvino")
        for alphabet in ("-latin", "")
    }


def test_wheel_without_the_weights_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MODEL_FILE", "another.onnx")

    with pytest.raises(FileNotFoundError, match=r"another\.onnx"):
        load_weights("latin")


def test_model_that_does_not_end_as_expected_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MODEL_FILE", "ch_ppocr_mobile_v2.0_cls_mobile.onnx")

    with pytest.raises(UnexpectedModelError):
        load_weights("latin")


@settings(max_examples=200)
@given(
    classes=st.lists(st.integers(0, 3), min_size=1, max_size=30),
    certainty=st.floats(0.4, 1.0),
)
def test_decoding_is_that_of_the_definition(classes: list[int], certainty: float) -> None:
    """CTC's best path: collapse repeats, then drop blanks."""
    probabilities = np.full((len(classes), 4), (1 - certainty) / 3, np.float32)
    probabilities[np.arange(len(classes)), classes] = certainty
    collapsed = [
        each
        for number, each in enumerate(classes)
        if each and (number == 0 or classes[number - 1] != each)
    ]

    reading = to_reading(probabilities, np.array(["", "a", "b", "c"]))

    assert reading.text == "".join("abc"[each - 1] for each in collapsed)
    assert reading.score == pytest.approx(certainty if collapsed else 0.0, rel=1e-5)


def test_session_computes_on_the_calling_thread_alone() -> None:
    """Cores are shared by the threads that read, not by what each of them computes."""
    run = open_onnxruntime(load_weights("latin").model)
    batch = np.zeros((1, 3, 48, 320), np.float32)
    before = len(list(Path("/proc/self/task").iterdir()))
    run(batch)

    assert len(list(Path("/proc/self/task").iterdir())) == before
