"""PP-OCRv6's weights, from the ONNX file in rapidocr's wheel into transformers' own model of it.

Both compute the same layers in the same order, so the tensors are handed over one by one. In the
ONNX file the backbone's normalisations are folded into its convolutions, and leave a bias.
"""

from collections.abc import Iterator

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

from app.engines.lines import Batch, Probabilities
from app.engines.runtimes import Runtime

WITH_WEIGHTS = {"Conv", "BatchNormalization", "MatMul", "Mul", "Add"}
LAYERS = (nn.Conv2d, nn.BatchNorm2d, nn.LayerNorm, nn.Linear)


def open_torch(model: bytes, classes: int) -> Runtime:
    """Load weights into transformers' model, computed by torch on the calling thread alone."""
    torch.set_num_threads(1)
    network = PPOCRV6SmallRecForTextRecognition(PPOCRV6SmallRecConfig(head_out_channels=classes))
    network.eval()
    with torch.inference_mode():
        layers = _in_order(network)
        tensors = _tensors(onnx.load_from_string(model))
        for layer in layers:
            _fill(layer, tensors)
    assert next(tensors, None) is None, "the ONNX file has layers that transformers has not"

    def run(batch: Batch) -> Probabilities:
        with torch.inference_mode():
            result: Probabilities = network(torch.from_numpy(batch)).last_hidden_state[0].numpy()
        return result

    return run


def _in_order(network: nn.Module) -> list[nn.Module]:
    """Return the layers in the order in which they are computed."""
    layers: list[nn.Module] = []
    hooks = [
        layer.register_forward_hook(lambda layer, *_: layers.append(layer))
        for layer in network.modules()
        if isinstance(layer, LAYERS)
    ]
    network(torch.zeros(1, 3, 48, 320))
    for hook in hooks:
        hook.remove()
    return layers


def _tensors(model: ModelProto) -> Iterator[torch.Tensor]:
    arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in WITH_WEIGHTS:
            for name in node.input:
                if name in arrays and arrays[name].size > 1:  # single numbers are the graph's
                    yield torch.from_numpy(np.array(arrays[name]))


def _fill(layer: nn.Module, tensors: Iterator[torch.Tensor]) -> None:
    first = next(tensors)
    if isinstance(layer, nn.Conv2d):
        layer.weight.copy_(first)
        if layer.bias is not None:
            layer.bias.copy_(next(tensors).flatten())
    elif isinstance(layer, nn.BatchNorm2d) and first.ndim == 4:
        layer.bias.copy_(first.flatten())
        layer.running_var.fill_(1 - layer.eps)
    elif isinstance(layer, nn.BatchNorm2d):
        layer.weight.copy_(first)
        for target in (layer.bias, layer.running_mean, layer.running_var):
            target.copy_(next(tensors))
    else:
        layer.weight.copy_(first.T if isinstance(layer, nn.Linear) else first)
        layer.bias.copy_(next(tensors))
