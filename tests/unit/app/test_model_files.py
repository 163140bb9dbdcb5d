"""Files of a trained model that are damaged or too large: refused with what to do, never served."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.engines.calibration import CalibrationError
from app.engines.language import LanguageModel, parse_language
from app.engines.loading import FILE as CALIBRATIONS
from app.engines.loading import known_calibrations, load_engine, load_fallback, wanted_model
from app.engines.models_folder import (
    KEPT,
    MOST_FILES,
    LocalModel,
    PromotionError,
    change_promotions,
    limit_of,
    read_promotions,
)
from app.engines.weights import (
    CHARACTERS_FILE,
    LANGUAGE_FILE,
    TRAINED_FILE,
    UnexpectedModelError,
    load_weights,
    parse_trained,
    write_trained,
)
from services.common.domain.trained_models import POINTER, RECORD, Act, Promotion

NAMES = ("lines-1", "lines-2")


@pytest.fixture
def models(models: Path) -> Path:
    """Return a folder of two models, the second of which is to be damaged."""
    for name in NAMES:
        (models / name).mkdir()
        write_trained(models / name, load_weights("latin"))
    return models


def promote(models: Path) -> None:
    for name in NAMES:
        promotion = Promotion.model_validate(
            {
                "model": name,
                "content_hash": LocalModel(name, models / name).content_hash,
                "promoted": {"at": "2026-11-28T00:00:00Z", "by": "ada", "reason": "for a test"},
            }
        )
        add_promotion(models, promotion)


def add_promotion(models: Path, added: Promotion) -> None:
    change_promotions(models, lambda known: [*known, added])


def assert_refused(models: Path, match: str) -> None:
    """It says why, and the model before is served."""
    promote(models)
    with pytest.raises(UnexpectedModelError, match=match) as refused:
        load_engine("rapidocr")
    assert str(models / NAMES[1]) in str(refused.value)
    assert "of the training back" in str(refused.value)
    before = load_fallback("rapidocr")
    assert before is not None
    assert before.model_version.startswith(f"{NAMES[0]}@")


@pytest.mark.parametrize("name", [TRAINED_FILE, LANGUAGE_FILE, CHARACTERS_FILE, "notes.json"])
def test_file_that_is_too_large_is_not_read(models: Path, name: str) -> None:
    path = models / NAMES[1] / name
    path.touch()
    os.truncate(path, limit_of(name) + 1)  # takes no disk

    assert_refused(models, rf"{name} is larger than \d+ MiB")


def test_too_many_files_are_not_read(models: Path) -> None:
    for number in range(MOST_FILES):
        (models / NAMES[1] / f"{number}.json").touch()

    assert_refused(models, rf"has {MOST_FILES + 2} files")


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b"null",
        b'{"": {}}',
        b'{"a": 1}',
        b'{"": {"a": true}}',
        b'{"": {"a": 0}}',
        b'{"": {"a": 0.5}}',
        b'{"": {"a": 1%s}}' % (b"0" * 400),
        b'{"": {"a": 1%s}}' % (b"0" * 5000),
        b'{"": {"": 1}}',
        b'{"": {"ab": 1}}',
        b'{"abcdef": {"a": 1}}',
    ],
    ids=lambda content: repr(content[:20]),
)
def test_damaged_language_is_refused(models: Path, content: bytes) -> None:
    (models / NAMES[1] / LANGUAGE_FILE).write_bytes(content)

    assert_refused(models, f"{LANGUAGE_FILE} is damaged: .*; copy the file")


json_texts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=7),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=7), inner),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())


@given(content=st.binary(max_size=40) | json_texts)
@example(content=b'{"": {"a": 9007199254740992}, "b": {"a": 1}}')
@example(content=b"{}")
def test_language_of_any_bytes_is_read_or_refused(content: bytes) -> None:
    try:
        language = parse_language({LANGUAGE_FILE: content}, folder=Path("own"))
    except UnexpectedModelError as error:
        assert str(Path("own", LANGUAGE_FILE)) in str(error)  # noqa: PT017  either is right
    else:
        assert isinstance(language, LanguageModel)
        assert language.factor("ab", "a") > 0


@pytest.mark.parametrize(
    "content",
    [b"", b"a\n\nb\n", b"a\nb\na\n", b"a\r\nb\r\n", b"ab\n", b"a\n\0\n", b"\xff\n"],
)
def test_damaged_characters_are_refused(models: Path, content: bytes) -> None:
    (models / NAMES[1] / CHARACTERS_FILE).write_bytes(content)

    assert_refused(models, f"{CHARACTERS_FILE} is damaged: ")


@pytest.mark.parametrize("content", [b"", b"junk", b"\xff" * 100])
def test_damaged_weights_are_refused(models: Path, content: bytes) -> None:
    (models / NAMES[1] / TRAINED_FILE).write_bytes(content)

    assert_refused(models, f"{TRAINED_FILE} is damaged: it is no ONNX model")


@pytest.mark.parametrize("is_nested", [False, True])
def test_weights_in_other_files_are_refused(models: Path, *, is_nested: bool) -> None:
    path = models / NAMES[1] / TRAINED_FILE
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    if is_nested:
        branch = model.graph.node.add(op_type="If").attribute.add(name="then_branch", type="GRAPH")
        tensor = branch.g.node.add().attribute.add(name="value", type="TENSOR").t
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    path.write_bytes(model.SerializeToString())

    assert_refused(models, "names other files that hold weights")


def test_weights_that_no_runtime_loads_are_refused(models: Path) -> None:
    path = models / NAMES[1] / TRAINED_FILE
    model = onnx.load(path)
    del model.graph.node[3]
    path.write_bytes(model.SerializeToString())
    promote(models)

    with pytest.raises(UnexpectedModelError, match=f"{NAMES[1]}@.* can't be loaded by onnxruntime"):
        load_engine("rapidocr")
    before = load_fallback("rapidocr")
    assert before is not None
    assert before.model_version.startswith(f"{NAMES[0]}@")


def small_model() -> bytes:
    value = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3])
    weights = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1, 3], [1, 2, 3])
    node = onnx.helper.make_node("Identity", ["w"], ["y"])
    graph = onnx.helper.make_graph([node], "own", [], [value], [weights])
    content: bytes = onnx.helper.make_model(graph).SerializeToString()
    return content


SMALL = small_model()


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """Return a content with bytes replaced and the end cut off, or any bytes."""
    changed = bytearray(content)
    for place in draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        changed[place] = draw(st.integers(0, 255))
    return bytes(changed[: draw(st.integers(0, len(content)))])


@given(
    model=st.just(SMALL) | st.binary(max_size=60) | mutated(SMALL),
    characters=st.just(b"a\nb\n") | st.binary(max_size=12) | mutated(b"a\nb\n"),
)
def test_weights_of_any_bytes_are_read_or_refused(model: bytes, characters: bytes) -> None:
    contents = {TRAINED_FILE: model, CHARACTERS_FILE: characters}
    try:
        weights = parse_trained(contents, folder=Path("own"))
    except UnexpectedModelError as error:
        assert "own" in str(error)  # noqa: PT017  either is right
    else:
        kept = weights.characters.tolist()
        assert len({*kept}) == len(kept)
        assert "\n".join(kept[1:]) == characters.decode().removesuffix("\n")


def too_large(path: Path) -> Path:
    path.touch()
    os.truncate(path, limit_of(path.name) + 1)  # takes no disk
    return path


def test_record_that_is_too_large_is_not_read(models: Path) -> None:
    path = too_large(models / NAMES[1] / RECORD)

    assert_refused(models, rf"{RECORD} is larger than \d+ MiB")
    with pytest.raises(ValueError, match=str(path)):
        known_calibrations(models)


def test_promotions_that_are_too_large_are_not_read(models: Path) -> None:
    path = too_large(models / POINTER)

    with pytest.raises(PromotionError, match=rf"{path} is larger than .* limit: restore it"):
        wanted_model("rapidocr")


def test_served_model_is_known_after_any_number_of_rollbacks(models: Path) -> None:
    promote(models)
    act = Act(at=datetime.now(UTC), by="ada", reason="for a test")
    for _ in range(KEPT):
        add_promotion(models, Promotion(model="x", content_hash="", promoted=act, rolled_back=act))

    known = read_promotions(models)
    assert len(known) == KEPT
    assert [each.model for each in known[:2]] == [*NAMES]


def test_calibrations_that_are_too_large_are_not_read(models: Path) -> None:
    promote(models)
    before = wanted_model("rapidocr")
    path = too_large(models / CALIBRATIONS)

    assert wanted_model("rapidocr") != before
    with pytest.raises(CalibrationError, match=f"{path} is larger than"):
        load_engine("rapidocr")


def test_text_that_could_not_be_read_again_is_not_written(models: Path) -> None:
    promote(models)
    before = (models / POINTER).read_bytes()
    act = Act(at=datetime.now(UTC), by="ada", reason=limit_of(POINTER) * "x")

    with pytest.raises(UnexpectedModelError, match=f"{POINTER} would be larger than"):
        add_promotion(models, Promotion(model="lines-1", content_hash="", promoted=act))
    assert (models / POINTER).read_bytes() == before
