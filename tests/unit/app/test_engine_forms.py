"""Runtime and precision: chosen without a measurement, named, and the same for each image."""

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engines import runtimes
from app.engines.lines import to_batch
from app.engines.runtimes import (
    RuntimeForm,
    UnavailablePrecisionError,
    choose_form,
    declared_flags,
    open_runtime,
)
from app.engines.settings import RapidSettings
from app.engines.weights import load_weights
from tests.support.samples import sample_lines

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::PIL")]


def test_failing_runtime_is_an_error_and_not_replaced() -> None:
    with pytest.raises(RuntimeError):
        open_runtime(RuntimeForm("openvino", "f32"), b"no model", threads=1)


@pytest.mark.parametrize(
    ("runtime", "precision", "flags", "form"),
    [
        ("onnxruntime", "auto", "amx_bf16", RuntimeForm("onnxruntime", "f32")),
        ("onnxruntime", "f32", "amx_bf16", RuntimeForm("onnxruntime", "f32")),
        ("auto", "auto", "avx2", RuntimeForm("onnxruntime", "f32")),
        ("auto", "auto", "avx512_bf16", RuntimeForm("onnxruntime", "f32")),
        ("auto", "auto", "avx512_bf16 amx_bf16", RuntimeForm("openvino", "bf16", "amx")),
        ("auto", "f32", "amx_bf16", RuntimeForm("onnxruntime", "f32")),
        ("auto", "bf16", "avx512_bf16", RuntimeForm("openvino", "bf16", "avx512")),
        ("openvino", "auto", "avx512_bf16", RuntimeForm("openvino", "f32")),
        ("openvino", "auto", "amx_bf16", RuntimeForm("openvino", "bf16", "amx")),
        ("openvino", "f32", "amx_bf16", RuntimeForm("openvino", "f32")),
        ("openvino", "bf16", "avx512_bf16", RuntimeForm("openvino", "bf16", "avx512")),
    ],
)
def test_form_follows_settings_and_declared_instructions(
    tmp_path: Path, runtime: Any, precision: Any, flags: str, form: RuntimeForm
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"model name\t: amx_bf16\nflags\t\t: avx {flags}\nflags\t\t: avx {flags}\n")

    wanted = RapidSettings(runtime=runtime, precision=precision)
    assert choose_form(wanted, declared_flags(file)) == form


def test_processor_that_declares_nothing_computes_in_f32(tmp_path: Path) -> None:
    flags = declared_flags(tmp_path / "none")

    assert choose_form(RapidSettings(runtime="auto"), flags) == RuntimeForm("onnxruntime", "f32")


@pytest.mark.parametrize(
    ("runtime", "flags", "hint"),
    [
        ("onnxruntime", {"amx_bf16"}, "OCR_RUNTIME=openvino"),
        ("openvino", {"avx2"}, "OCR_PRECISION=f32"),
        ("auto", {"avx2"}, "OCR_PRECISION=f32"),
    ],
)
def test_bfloat16_that_cannot_be_computed_is_refused(
    runtime: Any, flags: set[str], hint: str
) -> None:
    with pytest.raises(UnavailablePrecisionError, match=hint):
        choose_form(RapidSettings(runtime=runtime, precision="bf16"), frozenset(flags))


@pytest.mark.parametrize("instructions", ["amx", "avx512"])
def test_version_of_bfloat16_names_what_decides_its_rounding(instructions: str) -> None:
    named = RuntimeForm("openvino", "bf16", instructions).name

    assert named == f"openvino-{version('openvino')}-bf16-{instructions}"
    assert re.fullmatch(r"[A-Za-z0-9.-]+", named)


def forms() -> list[RuntimeForm]:
    """Return the forms that this processor can compute."""
    settings = RapidSettings(runtime="openvino", precision="bf16")
    found = [RuntimeForm("onnxruntime", "f32"), RuntimeForm("openvino", "f32")]
    with suppress(UnavailablePrecisionError):
        found.append(choose_form(settings, declared_flags(runtimes.PROCESSORS)))
    return found


@pytest.mark.parametrize("form", forms(), ids=lambda form: form.name)
def test_reading_depends_on_the_image_alone(form: RuntimeForm) -> None:
    """Whatever was read before it or is read beside it, and on how many threads."""
    weights_of = load_weights("latin")
    random = np.random.default_rng(5)
    widths = (320, 321, 333, 400, 640, 1201)
    noise = [random.uniform(-1, 1, (1, 3, 48, width)).astype(np.float32) for width in widths]
    batches = [*(to_batch(pixels) for pixels, _ in sample_lines()[:6]), *noise]
    run = open_runtime(form, weights_of.model, threads=1)
    alone = [run(batch).tobytes() for batch in batches]

    @settings(max_examples=3)
    @given(
        order=st.permutations([*range(len(batches))] * 2),
        threads=st.sampled_from([1, 2, 3]),
    )
    def check(order: list[int], threads: int) -> None:
        shared = open_runtime(form, weights_of.model, threads=threads)
        with ThreadPoolExecutor(threads) as pool:
            together = [each.tobytes() for each in pool.map(shared, [batches[n] for n in order])]
        assert together == [alone[number] for number in order]

    check()
