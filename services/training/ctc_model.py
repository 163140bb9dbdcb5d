"""The default engine's recogniser as a torch module, converted from ONNX and back.

transformers' PP-OCRv6 computes the same layers in the same order as the ONNX graph, so tensors are
handed over one by one. Training only changes their numbers: the exported graph is the one that was
read, and is served at the same speed by the same runtime.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from onnx import ModelProto, numpy_helper
from torch import nn
from transformers.models.pp_ocrv6_small_rec.configuration_pp_ocrv6_small_rec import (
    PPOCRV6SmallRecConfig,
)
from transformers.models.pp_ocrv6_small_rec.modeling_pp_ocrv6_small_rec import (
    PPOCRV6SmallRecForTextRecognition,
)

from app.engines.language import LanguageModel, count, parse_language, to_bytes, write_language
from app.engines.lines import MIN_MODEL_WIDTH, MODEL_HEIGHT, to_batch
from app.engines.models_folder import LocalModel, hash_of_contents, limit_of
from app.engines.rapid import RapidEngine
from app.engines.runtimes import open_onnxruntime
from app.engines.weights import (
    LANGUAGE_FILE,
    UnexpectedModelError,
    Weights,
    grow,
    load_weights,
    parse_trained,
    write_trained,
)
from app.images import Pixels

WITH_WEIGHTS = frozenset({"Conv", "BatchNormalization", "MatMul", "Mul", "Add"})
LAYERS = (nn.Conv2d, nn.BatchNorm2d, nn.LayerNorm, nn.Linear)
NORMALISATIONS = (nn.BatchNorm2d, nn.LayerNorm)
RARE = "‡†§"
"""Initial column of a character without a similar one: a rarely read character."""
HEAD_FACTOR = 5.0
"""The head, whose layers are few and normalised, may learn faster than the backbone."""
PIXELS_OF_A_STEP = 8
"""Columns of the input for each row of the output."""
WIDTH_STEP = 64
"""Batches are padded to multiples of it: oneDNN keeps what it made for each width, and freed memory
stays in pieces between."""


@dataclass(frozen=True)
class _Slot:
    """An initializer of the graph and the torch tensor that holds its numbers."""

    name: str
    tensor: torch.Tensor
    is_transposed: bool = False


class CtcModel:
    """A recogniser that can be trained.

    Raises:
        UnexpectedModelError: The graph has other layers than PP-OCRv6 small.
    """

    usual_learning_rate = 2e-4
    """Of the backbone: with five times as much, its many layers without normalisation explode."""

    def __init__(
        self,
        weights: Weights,
        *,
        version: str,
        added: Sequence[str] = (),
        language: LanguageModel | None = None,
    ) -> None:
        self.version = version
        self.added = [*added]
        self._language = language
        self.characters = [str(each) for each in weights.characters]
        self._numbers = {each: number for number, each in enumerate(self.characters) if number}
        self._graph = onnx.load_from_string(weights.model)
        config = PPOCRV6SmallRecConfig(head_out_channels=len(self.characters))
        self.network: Any = PPOCRV6SmallRecForTextRecognition(config).eval()
        self.network.to(memory_format=torch.channels_last)  # a fifth less time on a CPU
        with torch.no_grad():
            self._slots = _fill_all(self.network, self._graph)

    @property
    def module(self) -> nn.Module:
        """Module to train."""
        return cast("nn.Module", self.network)

    def can_write(self, text: str) -> bool:
        """Whether it has all characters of a text."""
        return self._numbers.keys() >= set(text)

    def engine(self) -> RapidEngine:
        """Return the OCR API's engine with the current weights."""
        weights = self.export()
        runtime = open_onnxruntime(weights.model)
        return RapidEngine(
            runtime, weights.characters, model_version=self.version, language=self._language
        )

    def expect(self, texts: Sequence[str]) -> bool:
        """Let the engine prefer texts like these, if it can; none: go by the image alone."""
        language = LanguageModel(count(texts)) if texts else None
        is_loadable = language is None or len(to_bytes(language)) <= limit_of(LANGUAGE_FILE)
        self._language = language if is_loadable else None
        return is_loadable

    def loss(self, images: Sequence[Pixels], texts: Sequence[str]) -> torch.Tensor:
        """Return the mean loss of a character (CTC, Graves et al., ICML 2006)."""
        batches = [to_batch(pixels) for pixels in images]
        widths = [batch.shape[-1] for batch in batches]
        full_width = -(-max(widths) // WIDTH_STEP) * WIDTH_STEP
        padded = np.zeros((len(batches), *batches[0].shape[1:3], full_width), np.float32)
        for place, batch in zip(padded, batches, strict=True):
            place[:, :, : batch.shape[-1]] = batch[0]
        device = next(self.module.parameters()).device
        logits = self.logits(torch.from_numpy(padded).to(device))
        labels = [self._numbers[character] for text in texts for character in text]
        return nn.functional.ctc_loss(
            logits.float().log_softmax(-1).transpose(0, 1),
            torch.tensor(labels, device=device),
            torch.tensor([width // PIXELS_OF_A_STEP for width in widths]),
            torch.tensor([len(text) for text in texts]),
            zero_infinity=True,  # a text that is too long for its image gives no loss
        )

    def save(self, folder: Path) -> None:
        """Write what the engine ``rapidocr`` loads."""
        write_trained(folder, self.export())
        if self._language is not None:
            write_language(folder, self._language)

    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """Compute N x steps x characters from N x 3 x 48 x width, before the softmax."""
        batch = batch.contiguous(memory_format=torch.channels_last)
        features = self.network.model(batch).last_hidden_state
        encoded = self.network.head.encoder(features).last_hidden_state
        logits: torch.Tensor = self.network.head.head(encoded)
        return logits

    def parameters(self) -> list[dict[str, Any]]:
        """Prepare for training; return the parameters to train, with factors of the learning rate.

        Normalisation layers stay as they are: small batches of lines say too little about their
        statistics, and the backbone's are already folded into the graph's convolutions.
        """
        self.network.train()
        for layer in self.network.modules():
            if isinstance(layer, NORMALISATIONS):
                layer.eval().requires_grad_(False)
        parts = ((self.network.model, 1.0), (self.network.head, HEAD_FACTOR))
        return [
            {"params": [each for each in part.parameters() if each.requires_grad], "factor": factor}
            for part, factor in parts
        ]

    def export(self) -> Weights:
        """Return the weights as the engine ``rapidocr`` loads them."""
        arrays = {each.name: each for each in self._graph.graph.initializer}
        for slot in self._slots:
            values = slot.tensor.detach().cpu().numpy()
            values = (values.T if slot.is_transposed else values).astype(np.float32)
            content = np.ascontiguousarray(values.reshape(tuple(arrays[slot.name].dims)))
            arrays[slot.name].CopyFrom(numpy_helper.from_array(content, slot.name))
        return Weights(self._graph.SerializeToString(), np.array(self.characters))


def open_ctc(trained: LocalModel | None, characters: AbstractSet[str]) -> CtcModel:
    """Open weights for training, with columns for all characters that are to be written.

    Args:
        trained: A model that was trained here; None: the embedded one.
        characters: Of the labels.

    Raises:
        OSError: The files are missing.
        UnexpectedModelError: The model can't be trained.
    """
    language = None
    if trained is None:
        weights = load_weights("latin", also=characters)
        identity = f"ppocrv6-small@rapidocr-{version('rapidocr')}"
    else:
        contents = trained.read()
        weights = parse_trained(contents, folder=trained.folder)
        identity = f"{trained.name}@{hash_of_contents(contents)}"
        language = parse_language(contents, folder=trained.folder)
    known = {str(each) for each in weights.characters}
    added = sorted(characters - known)
    likes = [_alike(each, known) for each in added]
    return CtcModel(grow(weights, added, likes), version=identity, added=added, language=language)


def _alike(character: str, known: AbstractSet[str]) -> str:
    """Return a known character that a new one may begin as: its letter without accent, if any."""
    plain = unicodedata.normalize("NFKD", character)[0]
    candidates: list[str] = [plain, plain.lower(), *RARE, *sorted(known)]
    return next(each for each in candidates if each in known)


def _fill_all(network: nn.Module, model: ModelProto) -> list[_Slot]:
    tensors = _initializers(model)
    try:
        slots = [slot for layer in _in_order(network) for slot in _fill(layer, tensors)]
    except (StopIteration, RuntimeError) as error:
        raise UnexpectedModelError(f"the model is not PP-OCRv6 small: {error}") from error
    if next(tensors, None) is not None:
        raise UnexpectedModelError("the model has layers that PP-OCRv6 small has not")
    return slots


def _in_order(network: nn.Module) -> list[nn.Module]:
    """Return the layers in the order in which they are computed."""
    layers: list[nn.Module] = []
    hooks = [
        layer.register_forward_hook(lambda layer, *_: layers.append(layer))
        for layer in network.modules()
        if isinstance(layer, LAYERS)
    ]
    network(torch.zeros(1, 3, MODEL_HEIGHT, MIN_MODEL_WIDTH))
    for hook in hooks:
        hook.remove()
    return layers


def _initializers(model: ModelProto) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the graph's weights by name, in the order in which they are used."""
    arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in WITH_WEIGHTS:
            for name in node.input:
                if name in arrays and arrays[name].size > 1:  # single numbers are constants
                    yield name, torch.from_numpy(np.array(arrays[name]))


def _fill(layer: nn.Module, tensors: Iterator[tuple[str, torch.Tensor]]) -> list[_Slot]:
    name, first = next(tensors)
    if isinstance(layer, nn.BatchNorm2d) and first.ndim == 4:
        # Folded into the convolution before it; what is left is the bias
        layer.bias.copy_(first.flatten())
        layer.running_var.fill_(1 - layer.eps)
        return [_Slot(name, layer.bias)]
    is_linear = isinstance(layer, nn.Linear)
    layer.weight.copy_(first.T if is_linear else first)
    slots = [_Slot(name, layer.weight, is_transposed=is_linear)]
    for target in _others(layer):
        name, values = next(tensors)
        target.copy_(values.flatten())
        slots.append(_Slot(name, target))
    return slots


def _others(layer: nn.Module) -> list[torch.Tensor]:
    """Return the tensors of a layer that follow its weight in the graph."""
    if isinstance(layer, nn.BatchNorm2d):
        return [layer.bias, layer.running_mean, layer.running_var]
    return [] if layer.bias is None else [layer.bias]
