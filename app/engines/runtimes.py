"""Run a model by onnxruntime or OpenVINO, on one core per call.

The callers' threads are the parallelism: one image per call and core has a higher throughput than
all cores on one image, and batches only add padding.

Runtime and precision follow from settings and processor flags, never from a measurement:
docs/decisions/0023-openvino-and-an-alphabet.md.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from app.engines.lines import Batch, Probabilities
from app.engines.settings import RapidSettings
from services.common.adapters.openvino_cpu import compile_model

Runtime = Callable[[Batch], Probabilities]
"""Computes one line (thread-safe)."""

PROCESSORS = Path("/proc/cpuinfo")
_FLAGS = ("flags", "Features")
"""Names of processor flags in Linux, on x86 and ARM."""
_BF16_INSTRUCTIONS = {"amx_bf16": "amx", "avx512_bf16": "avx512"}
"""By flag, in OpenVINO's order of preference."""
_FAST_INSTRUCTIONS = "amx"
"""With ``avx512_bf16`` alone bfloat16 takes up to twice the time of f32."""


class UnavailablePrecisionError(Exception):
    """Runtime or processor do not support the configured precision."""


@dataclass(frozen=True)
class RuntimeForm:
    """Runtime and precision of a model: all that changes its scores beside the weights."""

    runtime: Literal["onnxruntime", "openvino"]
    precision: Literal["f32", "bf16"]
    instructions: str = ""
    """Instruction set of bfloat16: each rounds differently, so scores differ."""

    @property
    def name(self) -> str:
        """Return its part of ``model_version``: ``onnxruntime-f32``.

        With bf16 the runtime's version is named too, which decides what is rounded:
        ``openvino-2026.4.1-bf16-amx``.
        """
        if self.precision == "f32":
            return f"{self.runtime}-f32"
        return f"{self.runtime}-{version(self.runtime)}-bf16-{self.instructions}"


def choose_form(settings: RapidSettings, flags: frozenset[str]) -> RuntimeForm:
    """Return runtime and precision by settings and processor flags.

    Args:
        settings: Runtime and precision.
        flags: Of the processor; see ``declared_flags``.

    Raises:
        UnavailablePrecisionError: bf16 is set, and can't be computed.
    """
    instructions = next((name for flag, name in _BF16_INSTRUCTIONS.items() if flag in flags), "")
    is_fast = instructions == _FAST_INSTRUCTIONS
    runtime, precision = settings.runtime, settings.precision
    if runtime == "auto":
        wants_bf16 = precision == "bf16" or (precision == "auto" and is_fast)
        runtime = "openvino" if wants_bf16 else "onnxruntime"
    if precision == "auto":
        precision = "bf16" if runtime == "openvino" and is_fast else "f32"
    if precision == "f32":
        return RuntimeForm(runtime, "f32")
    if runtime == "onnxruntime":
        raise UnavailablePrecisionError(
            "onnxruntime computes the model in f32 only: set OCR_RUNTIME=openvino, or "
            "OCR_PRECISION=f32"
        )
    if not instructions:
        raise UnavailablePrecisionError(
            f"this processor declares none of {', '.join(_BF16_INSTRUCTIONS)}: set "
            "OCR_PRECISION=f32"
        )
    return RuntimeForm(runtime, "bf16", instructions)


def declared_flags(processors: Path) -> frozenset[str]:
    """Return the processor's flags (proc_cpuinfo(5)); empty without that file."""
    try:
        lines = processors.read_text().splitlines()
    except OSError:
        return frozenset()
    parts = (line.partition(":") for line in lines)
    return frozenset(
        flag for name, _, flags in parts if name.strip() in _FLAGS for flag in flags.split()
    )


def open_runtime(form: RuntimeForm, model: bytes, *, threads: int) -> Runtime:
    """Load a model into a runtime."""
    if form.runtime == "onnxruntime":
        return open_onnxruntime(model)
    return open_openvino(model, form.precision, threads=threads)


def open_onnxruntime(model: bytes) -> Runtime:
    """Load a model into onnxruntime."""
    import onnxruntime  # noqa: PLC0415  only the runtime in use is loaded

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(batch: Batch) -> Probabilities:
        result: Probabilities = session.run(None, {name: batch})[0][0]
        return result

    return run


def open_openvino(model: bytes, precision: Literal["f32", "bf16"], *, threads: int) -> Runtime:
    """Load a model into OpenVINO, with explicit precision: its default varies by processor."""
    compiled = compile_model(
        model,
        {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": precision,
        },
    )
    own = threading.local()  # a request holds one image; each thread has its own

    def run(batch: Batch) -> Probabilities:
        if (request := getattr(own, "request", None)) is None:
            request = own.request = compiled.create_infer_request()
        request.infer({0: batch}, share_inputs=True)
        result: Probabilities = request.get_output_tensor(0).data[0].copy()
        return result

    return run
