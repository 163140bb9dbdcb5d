"""What computes a model: onnxruntime or OpenVINO, one core for each call.

The callers' threads are the parallelism: one image a call on each core reads more images a second
than both cores on one image, and padding images to a batch only adds work.
"""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import structlog

from app.engines.lines import Batch, Probabilities
from app.engines.settings import RuntimeName

log = structlog.stdlib.get_logger(__name__)

Runtime = Callable[[Batch], Probabilities]
"""Computes one line; safe from several threads."""

PROCESSORS = Path("/proc/cpuinfo")
CLEARLY_FASTER = 1.15
"""OpenVINO takes more memory: for less than this it is not worth it."""
_ROUNDS = 5
_TRIAL_WIDTHS = (320, 480)


def open_runtime(name: RuntimeName, model: bytes, *, threads: int) -> Runtime:
    """Load a model into a runtime.

    Args:
        name: Which; ``auto`` tries both where the processor has bfloat16: without it OpenVINO was
            not the faster one.
        model: ONNX.
        threads: How many will call at once.
    """
    if name == "onnxruntime":
        return open_onnxruntime(model)
    if name == "openvino":
        return open_openvino(model, threads=threads)
    plain = open_onnxruntime(model)
    if not _has_bfloat16(PROCESSORS):
        return plain
    try:
        other = open_openvino(model, threads=threads)
    except (ImportError, RuntimeError) as error:
        log.warning("OpenVINO cannot be used", error=str(error)[:300])
        return plain
    gain = _gain(plain, other)
    log.info("runtimes compared", openvino_gain=round(gain, 2), needed=CLEARLY_FASTER)
    return other if gain >= CLEARLY_FASTER else plain


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


def open_openvino(model: bytes, *, threads: int) -> Runtime:
    """Load a model into OpenVINO, in bfloat16 where the processor computes it natively."""
    import openvino  # noqa: PLC0415  only the runtime in use is loaded

    core = openvino.Core()
    is_native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    compiled = core.compile_model(
        core.read_model(model),
        "CPU",
        {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if is_native else "f32",
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


def _has_bfloat16(processors: Path) -> bool:
    """Whether the processor says so, or says nothing; OpenVINO knows, but takes a second to ask.

    Linux names it ``avx512_bf16`` and ``amx_bf16`` on x86, ``bf16`` on ARM.
    """
    try:
        return "bf16" in processors.read_text()
    except OSError:
        return True


def _gain(one: Runtime, other: Runtime) -> float:
    """Return how many times faster ``other`` is: medians of alternated runs."""
    batches = [np.zeros((1, 3, 48, width), np.float32) for width in _TRIAL_WIDTHS]
    taken: dict[Runtime, list[float]] = {one: [], other: []}
    for turn in range(_ROUNDS + 1):
        for runtime, seconds in taken.items():
            began = time.perf_counter()
            _run_all(runtime, batches)
            if turn:  # the first warms up
                seconds.append(time.perf_counter() - began)
    return median(taken[one]) / median(taken[other])


def _run_all(runtime: Runtime, batches: Sequence[Batch]) -> None:
    for batch in batches:
        runtime(batch)
