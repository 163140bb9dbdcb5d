"""An engine on torch and transformers with real weights: those of the embedded model."""

import numpy as np
import pytest

from app.engines.lines import to_batch
from app.engines.rapid import RapidEngine
from app.engines.runtimes import open_onnxruntime
from app.engines.weights import load_weights
from tests.support.samples import sample_lines
from tests.support.tiny_trocr import need_trocr

need_trocr()

from tests.support.torch_weights import open_torch  # noqa: E402  of the extra

pytestmark = pytest.mark.slow


@pytest.mark.filterwarnings("ignore:::PIL")
def test_torch_reads_the_samples_with_the_same_best_classes_as_onnxruntime() -> None:
    lines = sample_lines()
    weights = load_weights("all")
    on_torch = open_torch(weights.model, len(weights.characters))
    on_onnxruntime = open_onnxruntime(weights.model)
    engine = RapidEngine(on_torch, weights.characters, model_version="torch")

    for pixels, _ in lines:
        one, other = on_torch(to_batch(pixels)), on_onnxruntime(to_batch(pixels))
        assert (one.argmax(axis=1) == other.argmax(axis=1)).all()
        assert np.abs(one - other).max() < 1e-3
    texts = [engine.read(pixels).text for pixels, _ in lines]
    assert sum(text == right for text, (_, right) in zip(texts, lines, strict=True)) > 8
