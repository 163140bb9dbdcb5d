"""Samples of calibrations: of which predictions the model's own score is known."""

from pathlib import Path

from app.engines.loading import known_calibrations
from services.cli.calibration_samples import Samples, add_image
from services.common.domain.trained_models import CALIBRATION_MARK
from services.quality.annotated import AnnotatedImage
from tests.factories import document, prediction

EMBEDDED = "ppocrv6-small-latin@rapidocr-3.10.0+onnxruntime-f32"


def test_scores_of_unknown_calibrations_alone_are_skipped(tmp_path: Path) -> None:
    known = {f"{CALIBRATION_MARK}{each.hash}": each for each in known_calibrations(tmp_path)}
    samples = Samples()
    for version in ("", "+cal-094beed0", "+cal-54e40185", "+cal-01234567"):  # two were packaged
        read = prediction("été", score=0.5, model_version=f"{EMBEDDED}{version}")
        found = document(prediction=read, annotation={"text": "été", "quality": "ok"}, sha256="ff")
        add_image(samples, AnnotatedImage.of([found]), known)

    own, earlier, now = [each.score for each in samples.known[EMBEDDED]]
    assert own == 0.5 < min(earlier, now) < max(earlier, now) < 1
    assert samples.skipped == {f"{EMBEDDED}+cal-01234567": 1}
