"""The default engine's weights in torch: what they read there, and back in the engine."""

from pathlib import Path

import numpy as np
import pytest

from app.engines.lines import to_batch
from app.engines.loading import load_engine
from app.engines.models_folder import LocalModel
from app.engines.rapid import RapidEngine
from app.engines.runtimes import open_onnxruntime
from app.engines.weights import (
    UnexpectedModelError,
    Weights,
    grow,
    load_weights,
    parse_trained,
    write_trained,
)
from tests.support.samples import sample_lines
from tests.support.tiny_trocr import need_trocr

need_trocr()

import torch  # noqa: E402  of the extra

from services.training import ctc_model  # noqa: E402
from services.training.ctc_model import CtcModel  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::PIL")]
NEAR = 1e-3
LINES = 4
ADDED = "\N{MATHEMATICAL LEFT WHITE SQUARE BRACKET}"


def on_torch(model: CtcModel, batch: np.ndarray) -> np.ndarray:
    torch.set_num_threads(1)  # several wait for each other, for a single line
    with torch.inference_mode():
        probabilities: np.ndarray = model.logits(torch.from_numpy(batch)).softmax(-1)[0].numpy()
    return probabilities


@pytest.mark.parametrize("alphabet", ["latin", "all"])
def test_torch_computes_what_onnxruntime_computes(alphabet: str) -> None:
    weights = load_weights("all" if alphabet == "all" else "latin")
    model, run = CtcModel(weights, version="1"), open_onnxruntime(weights.model)

    for pixels, _ in sample_lines()[:LINES]:
        batch = to_batch(pixels)
        one, other = on_torch(model, batch), run(batch)
        assert np.abs(one - other).max() < NEAR
        assert (one.argmax(axis=1) == other.argmax(axis=1)).all()
    assert model.export().model == weights.model


def test_trained_weights_are_served_by_the_default_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [pixels for pixels, _ in sample_lines()[:LINES]]
    embedded = load_engine("rapidocr")
    weights = load_weights("latin")
    model = CtcModel(grow(weights, [ADDED], ["["]), version="1")
    with torch.no_grad():
        for group in model.parameters():
            for parameter in group["params"]:
                parameter.add_(torch.full_like(parameter, 1e-3))
    model.network.eval()
    assert model.expect([text for _, text in sample_lines()])
    model.save(tmp_path)
    monkeypatch.setenv("OCR_MODELS", str(tmp_path.parent))
    monkeypatch.setenv("OCR_MODEL", tmp_path.name)
    trained = load_engine("rapidocr")
    assert isinstance(trained, RapidEngine)

    for pixels in lines:
        batch = to_batch(pixels)
        assert np.abs(on_torch(model, batch) - trained._runtime(batch)).max() < NEAR
    assert [each.text for each in trained.read_many(lines)] != [
        each.text for each in embedded.read_many(lines)
    ]
    assert trained.read_many(lines) == model.engine().read_many(lines)
    model.expect([])
    assert trained.read_many(lines) != model.engine().read_many(lines)
    assert trained._characters.tolist() == [*weights.characters, ADDED]
    assert trained.model_version.startswith(f"{tmp_path.name}@")
    assert trained.model_version.endswith("+onnxruntime-f32")


def test_lines_of_many_widths_make_few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that grows with their number took a training to 9.5 GB."""
    model, widths = CtcModel(load_weights("latin"), version="1"), set()

    def logits(batch: torch.Tensor) -> torch.Tensor:
        widths.add(batch.shape[-1])
        return torch.zeros(len(batch), batch.shape[-1] // 8, len(model.characters))

    monkeypatch.setattr(model, "logits", logits)
    for width in range(320, 640, 8):
        model.loss([np.zeros((48, width, 3), np.uint8)], ["a"])

    assert len(widths) <= 6


def test_grown_model_reads_what_it_read_before() -> None:
    weights = load_weights("latin")
    grown = grow(weights, [ADDED], ["["])
    [pixels, _], *_ = sample_lines()
    before = open_onnxruntime(weights.model)(to_batch(pixels))
    after = open_onnxruntime(grown.model)(to_batch(pixels))

    assert grown.characters.tolist() == [*weights.characters, ADDED]
    bracket = weights.characters.tolist().index("[")
    assert np.allclose(after[:, -1], after[:, bracket])
    assert np.abs(after[:, :-1] - before).max() < 0.01


def test_characters_of_labels_are_kept_whatever_the_alphabet() -> None:
    assert {"\N{GREEK CAPITAL LETTER OMEGA}"} == (
        {*load_weights("latin", also={"\N{GREEK CAPITAL LETTER OMEGA}", ADDED}).characters}
        - {*load_weights("latin").characters}
    )


def test_files_of_another_model_are_refused(tmp_path: Path) -> None:
    weights = load_weights("latin")
    write_trained(tmp_path, Weights(weights.model, weights.characters[:-1]))

    with pytest.raises(UnexpectedModelError, match=r"characters\.txt has 337 .* 338 columns"):
        parse_trained(LocalModel("own", tmp_path).read(), folder=tmp_path)
    with pytest.raises(UnexpectedModelError):
        CtcModel(Weights(weights.model, weights.characters[:-1]), version="1")


def test_language_too_large_to_be_loaded_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = CtcModel(load_weights("latin"), version="1")
    assert model.expect(["some text"])
    monkeypatch.setattr(ctc_model, "limit_of", lambda _: 100)

    assert not model.expect(["some text"])
    assert model.expect([])
