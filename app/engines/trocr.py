"""TrOCR and its fine-tuned successors, by transformers and torch (extra ``trocr``).

Li et al., "TrOCR: Transformer-based Optical Character Recognition with Pre-trained Models",
https://arxiv.org/abs/2109.10282. Any ``VisionEncoderDecoderModel`` whose folder holds its weights
as safetensors, its tokenizer and its image processor can be read; no code of a checkpoint is run.
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoImageProcessor, AutoTokenizer, VisionEncoderDecoderModel
from transformers.utils.logging import disable_progress_bar

from app.engines.base import EngineReading
from app.engines.hub import resolve
from app.engines.models_folder import find_model
from app.engines.settings import ModelsSettings, TrocrSettings
from app.images import Pixels

BATCH = 8
MIN_NEW_TOKENS = 1
"""Without a minimum, some models would generate only the end token."""
_COMMIT_LENGTH = 12


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint loaded by transformers."""

    model: Any
    tokenizer: Any
    image_processor: Any
    version: str
    """``name@commit`` from the hub, ``name@content hash`` from a folder."""


class TrocrEngine:
    """Reads lines of print or handwriting, several at once.

    Generation is greedy: beam search multiplies the time. With 8-bit weights each image is read
    alone: activations are quantised by their maximum, so images of a batch would change each
    other's scores.

    Args:
        checkpoint: The model, on the CPU.
        max_tokens: Limit of tokens, within the model's positions.
        is_int8: Whether its linear layers are computed with 8-bit weights; ignored with CUDA.
    """

    name = "trocr"
    least_width = 1

    def __init__(self, checkpoint: Checkpoint, *, max_tokens: int, is_int8: bool) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        is_quantised = is_int8 and self._device.type == "cpu"
        self.best_batch = 1 if is_quantised else BATCH
        model = checkpoint.model.eval()
        self._model = _quantised(model) if is_quantised else model.to(self._device)
        self._tokenizer = checkpoint.tokenizer
        self._image_processor = checkpoint.image_processor
        self._max_tokens = min(max_tokens, _most_tokens(model, default=max_tokens))
        self._special = torch.tensor(sorted(_special_tokens(checkpoint)), device=self._device)
        self.model_version = f"{checkpoint.version}{'-int8' if is_quantised else ''}"

    def read(self, pixels: Pixels) -> EngineReading:
        """Read one line of text."""
        return self.read_many([pixels])[0]

    def read_many(self, images: Sequence[Pixels]) -> list[EngineReading]:
        """Read several lines, each scaled to the model's square without padding.

        The score is the geometric mean of the probabilities of the tokens that make the text.
        """
        images = [*images]
        batches = [
            images[begin : begin + self.best_batch]
            for begin in range(0, len(images), self.best_batch)
        ]
        return [reading for batch in batches for reading in self._read_batch(batch)]

    def _read_batch(self, images: Sequence[Pixels]) -> list[EngineReading]:
        inputs = self._image_processor(images=list(images), return_tensors="pt")
        with torch.inference_mode():
            made = self._model.generate(
                inputs["pixel_values"].to(self._device),
                num_beams=1,
                do_sample=False,
                min_new_tokens=MIN_NEW_TOKENS,
                max_new_tokens=self._max_tokens,
                return_dict_in_generate=True,
                output_scores=True,
            )
            scores = self._scores(made)
        texts = self._tokenizer.batch_decode(made.sequences, skip_special_tokens=True)
        return [_reading(text, score) for text, score in zip(texts, scores, strict=True)]

    def _scores(self, made: Any) -> list[float]:
        logs = self._model.compute_transition_scores(
            made.sequences, made.scores, normalize_logits=True
        )
        is_text = ~torch.isin(made.sequences[:, -logs.shape[1] :], self._special)
        total = torch.where(is_text, logs, 0.0).sum(dim=1)  # -inf after the end times 0 is nan
        means = total / is_text.sum(dim=1).clamp(min=1)
        scores: list[float] = means.exp().tolist()
        return scores


def load(*, threads: int) -> TrocrEngine:
    """Load a model from the models folder, another folder, the hub's cache or the hub.

    Args:
        threads: Number of concurrent readers; each uses its share of the cores.

    Raises:
        ImportError: The extra ``trocr`` is not installed.
        OSError: The model does not exist, or has no weights as safetensors.
    """
    torch.backends.cudnn.allow_tf32 = False  # TF32 has 10 bits, which gives other scores than a CPU
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // threads))
    settings = TrocrSettings()
    return TrocrEngine(
        load_checkpoint(settings, ModelsSettings().models),
        max_tokens=settings.trocr_max_tokens,
        is_int8=settings.trocr_int8,
    )


def load_checkpoint(settings: TrocrSettings, models: Path) -> Checkpoint:
    """Load the model of ``OCR_TROCR_MODEL``; local folders are never looked up on the hub.

    Raises:
        OSError: The model does not exist, or has no weights as safetensors.
    """
    disable_progress_bar()
    local = find_model(settings.trocr_model, models)
    if local is None:
        return _from_hub(settings.trocr_model, settings.trocr_revision, models)
    version = f"{local.name}@{local.content_hash}"
    return _from(str(local.folder), version, local_files_only=True)


def _from_hub(name: str, revision: str, models: Path) -> Checkpoint:
    """Load a revision from the hub, or from its cache if the hub does not answer."""
    try:
        found = resolve(name, revision)
    except (OSError, ValueError) as error:
        raise _missing(name, models, error) from error
    version = f"{name}@{found.commit[:_COMMIT_LENGTH]}"
    is_cached = found.problem is not None
    try:
        return _from(name, version, revision=found.commit, local_files_only=is_cached)
    except OSError as error:
        if found.problem is None:
            raise
        raise _missing(name, models, found.problem) from error


def _missing(name: str, models: Path, why: Exception) -> OSError:
    reason = next(iter(str(why).splitlines()), type(why).__name__)
    return OSError(
        f"no model {name} in {models} (docreco models pull {name} brings it there), "
        f"and none from the hub: {reason}"
    )


def _from(where: str, version: str, **options: Any) -> Checkpoint:
    options["trust_remote_code"] = False
    return Checkpoint(
        model=VisionEncoderDecoderModel.from_pretrained(where, use_safetensors=True, **options),
        tokenizer=AutoTokenizer.from_pretrained(where, **options),
        image_processor=AutoImageProcessor.from_pretrained(where, backend="pil", **options),
        version=version,
    )


def _quantised(model: Any) -> Any:
    with warnings.catch_warnings():
        # torch will drop it for torchao, a package of its own: docs/decisions/0024-trocr.md
        warnings.filterwarnings("ignore", "torch.ao.quantization", DeprecationWarning)
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, torch.qint8)


def _most_tokens(model: Any, *, default: int) -> int:
    """Return the number of tokens the model can generate: it fails beyond its last position."""
    most: int | None = getattr(model.config.decoder, "max_position_embeddings", None)
    return default if most is None else most


def _special_tokens(checkpoint: Checkpoint) -> set[int]:
    """Return the special tokens, which a checkpoint names in several places."""
    generation = checkpoint.model.generation_config
    named = [
        *checkpoint.tokenizer.all_special_ids,
        generation.pad_token_id,
        generation.decoder_start_token_id,
        *_as_list(generation.eos_token_id),
    ]
    return {token for token in named if token is not None}


def _as_list(token: int | list[int] | None) -> list[int | None]:
    return [*token] if isinstance(token, list) else [token]


def _reading(text: str, score: float) -> EngineReading:
    stripped = text.strip()
    return EngineReading(stripped, score if stripped else 0.0)
