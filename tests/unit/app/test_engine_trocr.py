"""The engine trocr, on a tiny checkpoint with random weights."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from app.engines.base import EngineReading
from app.images import Pixels, decode
from infra.local.ports import pick_free_ports
from tests.support.images import line_image
from tests.support.tiny_trocr import POSITIONS, make_tiny_trocr, need_trocr

need_trocr()

import torch  # noqa: E402  of the extra

from app.engines.trocr import TrocrEngine, load  # noqa: E402

pytestmark = pytest.mark.slow

TEXTS = ("Wikipedia", "industrie", "a", "The quick brown fox", "1789", "x", "yes", "no", "maybe")
NEAR = 1e-4
COMMIT = "1234567890abcdef1234567890abcdef12345678"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_tiny_trocr(folder / "team" / "tiny")
    return folder


@pytest.fixture
def engine(models: Path, monkeypatch: pytest.MonkeyPatch) -> TrocrEngine:
    return load_from(models, monkeypatch)


def load_from(
    models: Path, monkeypatch: pytest.MonkeyPatch, name: str = "team/tiny", **settings: str
) -> TrocrEngine:
    monkeypatch.setenv("OCR_MODELS", str(models))
    monkeypatch.setenv("OCR_TROCR_MODEL", name)
    monkeypatch.setenv("OCR_TROCR_MAX_TOKENS", "12")
    for key, value in settings.items():
        monkeypatch.setenv(f"OCR_TROCR_{key}", value)
    return load(threads=2)


def images() -> list[Pixels]:
    return [decode(line_image(text), max_pixels=1_000_000).pixels for text in TEXTS]


def assert_same(some: list[EngineReading], others: list[EngineReading]) -> None:
    assert [each.text for each in some] == [each.text for each in others]
    for one, other in zip(some, others, strict=True):
        assert one.score == pytest.approx(other.score, abs=NEAR)


def test_images_differ_in_text_and_scores_are_probabilities(engine: TrocrEngine) -> None:
    readings = engine.read_many(images())

    assert len({each.text for each in readings}) > 1
    assert all(0 < each.score < 1 for each in readings if each.text)


def test_batch_reads_what_each_image_reads_alone(engine: TrocrEngine) -> None:
    assert_same(engine.read_many(images()), [engine.read(pixels) for pixels in images()])
    assert engine.read_many([]) == []


def test_threads_sharing_an_engine_read_what_one_reads(engine: TrocrEngine) -> None:
    alone = [engine.read(pixels) for pixels in images()]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(engine.read, images() * 4))

    assert_same(together, alone * 4)


def test_score_is_the_mean_log_probability_without_the_end(engine: TrocrEngine) -> None:
    """Recomputed from the model's logits, fed with what it has generated."""
    pixels = images()[0]
    model, inputs = engine._model, engine._image_processor(images=[pixels], return_tensors="pt")
    with torch.inference_mode():
        made = model.generate(
            inputs["pixel_values"], num_beams=1, min_new_tokens=1, max_new_tokens=12
        )
        logits = model(pixel_values=inputs["pixel_values"], decoder_input_ids=made).logits.clone()
        logits[:, 0, 2] = -torch.inf  # the end may not come first
    logs = torch.log_softmax(logits[0, :-1], dim=-1).gather(1, made[0, 1:, None])[:, 0]
    is_letter = made[0, 1:] > 3

    assert engine.read(pixels).score == pytest.approx(logs[is_letter].mean().exp().item(), abs=NEAR)


def test_padding_in_a_batch_does_not_change_the_score(engine: TrocrEngine) -> None:
    """The shorter text alone generates no padding at all."""
    model = engine._model
    short = torch.tensor([[2, 5, 6, 2, 1, 1]])
    scores = tuple(torch.zeros(1, model.config.decoder.vocab_size) for _ in range(5))
    scores[3][0, 1] = -torch.inf

    class Made:
        sequences = short

    Made.scores = scores  # type: ignore[attr-defined]
    [score] = engine._scores(Made)

    assert score == pytest.approx(1 / model.config.decoder.vocab_size)


def test_text_ends_where_the_models_positions_end(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load_from(models, monkeypatch, MAX_TOKENS="1024")

    reading = engine.read(np.zeros((48, 200, 3), np.uint8))  # it never ends by itself

    assert POSITIONS / 2 < len(reading.text) <= POSITIONS


def test_model_version_is_the_folder_and_what_is_in_it(
    models: Path, engine: TrocrEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, content = engine.model_version.partition("@")
    changed = shutil.copytree(models / "team" / "tiny", models / "team" / "changed")
    (changed / "README.md").write_text("another text is not another model")
    config = changed / "config.json"

    assert (name, len(content)) == ("team/tiny", 12)
    assert load_from(models, monkeypatch, "team/changed").model_version.endswith(content)
    config.write_text(config.read_text() + "\n")
    assert not load_from(models, monkeypatch, "team/changed").model_version.endswith(content)


def test_folder_anywhere_can_be_named(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = shutil.copytree(models / "team" / "tiny", tmp_path / "mine")

    assert load_from(models, monkeypatch, str(elsewhere)).model_version.startswith("mine@")


@pytest.fixture
def silent_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the hub unavailable; return its cache."""
    nowhere = f"http://127.0.0.1:{pick_free_ports().ocr_api_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", nowhere)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("silent_hub")
def test_model_that_is_nowhere_is_told_at_once_with_what_to_do(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(OSError, match=r"docreco models pull team/none .* hub does not answer"):
        load_from(models, monkeypatch, "team/none")

    assert "Retrying" not in caplog.text


def test_version_of_a_cached_branch_is_its_commit_without_the_hub(
    models: Path, monkeypatch: pytest.MonkeyPatch, silent_hub: Path
) -> None:
    cached = silent_hub / "models--team--cached"
    shutil.copytree(models / "team" / "tiny", cached / "snapshots" / COMMIT)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)

    engine = load_from(models, monkeypatch, "team/cached", REVISION="main")

    assert engine.model_version == f"team/cached@{COMMIT[:12]}"


def test_pickled_weights_are_refused(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled = shutil.copytree(models / "team" / "tiny", tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")

    with pytest.raises(OSError, match="safetensors"):
        load_from(models, monkeypatch, str(pickled))


def test_eight_bit_weights_read_the_same_as_another_version(
    models: Path, engine: TrocrEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("the setting is for a CPU")
    small = load_from(models, monkeypatch, INT8="true")
    blank = np.full((48, 320, 3), 255, np.uint8)

    assert small.model_version == f"{engine.model_version}-int8"
    assert small.read_many(images()) == [small.read(pixels) for pixels in images()]
    assert small.read(blank).score == pytest.approx(engine.read(blank).score, abs=0.1)
