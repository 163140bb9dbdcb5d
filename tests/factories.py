"""Builders of what tests are about: each has usual values, of which a test names its own."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from services.cli.report_figures import Figures
from services.common.domain.events import EventKind, ObjectEvent
from services.common.domain.image import ImageDocument
from services.common.domain.records import Annotation, Prediction, Rejection
from services.consumer.documents import ObjectReading

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def event(sequencer: str = "10", etag: str | None = "e1", **fields: Any) -> ObjectEvent:
    """Return the event of an object ``raw/a.png`` that was written."""
    usual: dict[str, Any] = {
        "kind": EventKind.CREATED,
        "name": "s3:ObjectCreated:Put",
        "bucket": "raw",
        "key": "a.png",
        "occurred_at": NOW,
        "size": 3,
        "content_type": "image/png",
        "uploaded_by": "someone",
    }
    return ObjectEvent(sequencer=sequencer, etag=etag, **(usual | fields))


def prediction(text: str = "industrie", **fields: Any) -> Prediction:
    """Return what a model has read."""
    usual = {"score": 0.9, "engine": "rapidocr", "model_version": "v1", "duration_ms": 12.5}
    return Prediction(text=text, **{"predicted_at": NOW, **usual, **fields})


def reading(
    etag: str = "e1", result: Prediction | Rejection | None = None, sha256: str = "ff"
) -> ObjectReading:
    """Return what came of reading an object; by default a prediction."""
    result = prediction() if result is None else result
    size = (320, 48) if isinstance(result, Prediction) else (None, None)
    return ObjectReading(etag, 3, "image/png", sha256, result, *size)


def annotation(text: str, **fields: Any) -> Annotation:
    """Return what a person says."""
    return Annotation(text=text, **{"quality": "ok", "by": "ada", "at": NOW, **fields})


def document(**fields: Any) -> ImageDocument:
    """Return a document as MongoDB has it; of an image that was read, unless the fields differ."""
    usual = {
        "_id": "raw/a.png",
        "bucket": "raw",
        "key": "a.png",
        "etag": "e1",
        "status": "predicted",
    }
    return ImageDocument.model_validate(usual | fields)


def figures(
    documents: Iterable[ImageDocument], *, since: datetime, until: datetime, low_score: float
) -> Figures:
    """Return the figures of documents."""
    made = Figures(since, until, low_score)
    for each in documents:
        made.add(each)
    return made


def decision(**changes: Any) -> dict[str, Any]:
    """Return the decision on a model that is better."""
    return {
        "at": "2026-11-28T12:00:00Z",
        "model_version": "m@1",
        "against": "ppocrv6",
        "images": 50,
        "cer": 0.1,
        "against_cer": 0.3,
        "p_value": 0.001,
        "calibration_error": 0.02,
        "by_source": {},
        "problems": [],
        **changes,
    }


def model_record(**changes: Any) -> dict[str, Any]:
    """Return the content of a trained model's ``model.json``."""
    before, after = (
        {"images": 9, "cer": cer, "exact": 0.1, "score": 0.5} for cer in (0.322, 0.151)
    )
    return {
        "model": "lines-2",
        "base": "ppocrv6-small@rapidocr-3",
        "trained_at": "2026-11-28T00:00:00Z",
        "export_sha256": 64 * "a",
        "images": {"train": 9},
        "licences": ["CC-BY-4.0"],
        "settings": {"epochs": 3},
        "epochs": 3,
        "best_epoch": 2,
        "added_characters": "",
        "metrics": {"validation": {"before": before, "after": after}},
        **changes,
    }
