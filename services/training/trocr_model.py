"""Trainable TrOCR-style checkpoints."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar

from app.engines.settings import ModelsSettings, TrocrSettings
from app.engines.trocr import Checkpoint, TrocrEngine, load_checkpoint
from app.images import Pixels

IGNORED = -100
"""Label ignored by torch's loss."""
READABLE = 0o644
"""Readable for the OCR API's user; safetensors writes files for their owner only."""


class TrocrModel:
    """Converts lines to tensors.

    The decoder's input is the start token and the text, its target the text and the end token, as
    TrOCR was trained.
    """

    usual_learning_rate = 5e-5
    """As in TrOCR's own fine-tuning."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        generation = checkpoint.model.generation_config
        end = generation.eos_token_id
        self.version = checkpoint.version
        self.added: list[str] = []
        self._checkpoint = checkpoint
        self._start: int = generation.decoder_start_token_id
        self._end: int = end[0] if isinstance(end, list) else end
        self._padding: int = generation.pad_token_id
        self._most_tokens: int = checkpoint.model.config.decoder.max_position_embeddings

    @property
    def module(self) -> Any:
        """Module to train."""
        return self._checkpoint.model

    def can_write(self, text: str) -> bool:
        """Whether it has tokens for all characters of a text."""
        return self._checkpoint.tokenizer.unk_token_id not in self._tokens(text)

    def parameters(self) -> list[dict[str, Any]]:
        """Prepare for training; return the parameters to train."""
        self.module.train()
        return [{"params": [*self.module.parameters()], "factor": 1.0}]

    def loss(self, images: Sequence[Pixels], texts: Sequence[str]) -> Any:
        """Return the mean cross entropy per token."""
        device, most = self.module.device, self._most_tokens
        inputs = self._checkpoint.image_processor(images=[*images], return_tensors="pt")
        tokens = [self._tokens(text) for text in texts]
        # Truncation also removes the end token
        given = _padded([[self._start, *each][:most] for each in tokens], self._padding)
        labels = _padded([[*each, self._end][:most] for each in tokens], IGNORED)
        return self.module(
            pixel_values=inputs["pixel_values"].to(device),
            decoder_input_ids=given.to(device),
            labels=labels.to(device),
        ).loss

    def expect(self, texts: Sequence[str]) -> bool:  # noqa: ARG002  of the protocol
        """Do nothing: the decoder learns what texts are like by itself."""
        return False

    def engine(self) -> TrocrEngine:
        """Return the OCR API's engine with the current weights."""
        most = TrocrSettings().trocr_max_tokens
        return TrocrEngine(self._checkpoint, max_tokens=most, is_int8=False)

    def save(self, folder: Path) -> None:
        """Write what the engine ``trocr`` loads."""
        disable_progress_bar()
        self.module.save_pretrained(folder)
        self._checkpoint.tokenizer.save_pretrained(folder)
        self._checkpoint.image_processor.save_pretrained(folder)
        for file in folder.iterdir():
            file.chmod(READABLE)

    def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = self._checkpoint.tokenizer(text, add_special_tokens=False).input_ids
        return tokens


def open_trocr(name: str) -> TrocrModel:
    """Load a checkpoint as the engine ``trocr`` does.

    Raises:
        OSError: It does not exist, or has no weights as safetensors.
    """
    return TrocrModel(load_checkpoint(TrocrSettings(trocr_model=name), ModelsSettings().models))


def _padded(rows: Sequence[Sequence[int]], padding: int) -> Any:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows])
