"""Compile models for the processor with OpenVINO, without its telemetry."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Properties = Mapping[str, str | int]


def compile_model(model: bytes | Path, properties: Properties) -> Any:
    """Load a model into OpenVINO; return it compiled.

    Importing OpenVINO sends usage data from a forked child, which it terminates where no answer
    comes. The child shares the descriptor by which signals wake the event loop, so that the
    service itself read a SIGTERM and stopped. Without the package, OpenVINO uses its own stub.

    Args:
        model: ONNX, as bytes or a file.
        properties: Of OpenVINO's device CPU. Name the precision: the default varies by processor.
    """
    modules: dict[str, Any] = sys.modules
    modules.setdefault("openvino_telemetry", None)  # its import raises ImportError from now on
    import openvino  # noqa: PLC0415  only the runtime in use is loaded

    core = openvino.Core()
    return core.compile_model(core.read_model(model), "CPU", dict(properties))
