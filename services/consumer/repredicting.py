"""What reading an image again makes of its document: the earlier prediction goes into ``history``.

A history belongs to bytes: other bytes under the key, or a removal, end it (see ``documents``).
"""

from typing import Any

from services.common.adapters.mongo import Document
from services.common.domain.jobs import RepredictJob
from services.consumer.documents import Code, Decision, Reading, of_reading, with_disagreement

MOST_EARLIER = 100
"""Predictions in ``history``; ``history_count`` goes on."""
SAME = ("model_version", "engine", "text")
"""Fields that make two predictions the same for a history."""


def reason_not_to(document: Document | None, job: RepredictJob) -> Code | None:
    """Return why a job has nothing to do any more, or None where it has.

    The job may have been delivered before, or the object removed, replaced or read since.
    """
    if document is None or document.get("status") == "removed":
        return "gone"
    if document.get("etag") != job.etag:
        return "stale"
    prediction: dict[str, Any] = document.get("prediction") or {}
    if prediction.get("predicted_at") != job.replaces:
        return "duplicate"
    return None


def repredicted(document: Document | None, job: RepredictJob, reading: Reading) -> Decision:
    """Decide what a second reading makes of a document."""
    reason = reason_not_to(document, job)
    if document is None or reason is not None:
        return Decision(reason or "gone", None)
    if reading.info.etag != job.etag:
        return Decision("stale", None)  # replaced since; the event of that follows
    fields = of_reading(reading)
    earlier = document.get("prediction")
    if earlier is not None and not _is_same(earlier, fields["prediction"]):
        fields |= _with(document, earlier)
    code: Code = "rejected" if reading.prediction is None else "repredicted"
    return Decision(code, with_disagreement(document, fields))


def _with(document: Document, earlier: dict[str, Any]) -> dict[str, Any]:
    history = document.get("history") or []
    count = max(document.get("history_count") or 0, len(history))
    return {"history": [*history, earlier][-MOST_EARLIER:], "history_count": count + 1}


def _is_same(earlier: dict[str, Any], later: dict[str, Any] | None) -> bool:
    return later is not None and all(earlier.get(name) == later.get(name) for name in SAME)
