"""Build Label Studio's task of an image.

``data`` is sent to annotators' browsers, so it has only what they need. ``pushed`` is a digest of
the pushed state.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

from services.common.adapters.object_store import ObjectStore
from services.common.domain.image import ImageDocument
from services.common.domain.records import Prediction
from services.label_studio.settings import LabelStudioSettings

LABEL_CONFIG = (files(__package__) / "labeling.xml").read_text()
"""Labeling configuration; it uses the names below."""
IMAGE, TEXT, QUALITY = "image", "text", "quality"
SHOWN_SOURCES = 20
"""Limit of URLs shown."""
FORM = 1
"""Version of a task's data; older ones are pushed again."""


@dataclass(frozen=True)
class Address:
    """URL of an image for browsers."""

    url: str
    valid_until: datetime | None = None
    """None: as long as the object exists."""


class TaskAddresses:
    """Builds URLs of images."""

    def __init__(self, settings: LabelStudioSettings, store: ObjectStore) -> None:
        self._is_presigned = settings.addresses == "presigned"
        self._seconds = settings.address_seconds
        self._store = store

    async def of(self, document: ImageDocument) -> Address:
        """Return the URL of an image, valid from now on."""
        key = document.key
        if not self._is_presigned:
            return Address(f"s3://{self._store.bucket}/{key}")
        until = datetime.now(tz=UTC).replace(microsecond=0) + timedelta(seconds=self._seconds)
        return Address(await self._store.address(key, seconds=self._seconds), until)

    def is_fresh(self, valid_until: str) -> bool:
        """Whether a pushed URL has more than half of its validity left."""
        if not self._is_presigned:
            return True
        try:
            left = datetime.fromisoformat(valid_until) - datetime.now(tz=UTC)
        except (ValueError, TypeError):
            return False
        return left > timedelta(seconds=self._seconds / 2)

    @property
    def kind(self) -> str:
        """Common properties of all URLs; after a change all tasks are pushed again."""
        return f"{self._is_presigned} {self._store.client.meta.endpoint_url} {self._store.bucket}"


def to_task(document: ImageDocument, address: Address, kind: str) -> dict[str, Any]:
    """Return the task of a predicted image."""
    return {"data": to_data(document, address, kind), "predictions": [to_prediction(document)]}


def to_data(document: ImageDocument, address: Address, kind: str) -> dict[str, Any]:
    """Return the data of a task."""
    return {
        IMAGE: address.url,
        "image_id": document.id,
        "etag": document.etag,
        "source_urls": _sources(document),
        "valid_until": address.valid_until.isoformat() if address.valid_until else "",
        "pushed": pushed(document, kind),
    }


def to_prediction(document: ImageDocument) -> dict[str, Any]:
    """Return the prediction in Label Studio's form."""
    prediction = document.prediction or Prediction()
    return {
        "model_version": prediction.model,
        "score": prediction.score,
        "result": [
            {
                "id": "prediction",
                "from_name": TEXT,
                "to_name": IMAGE,
                "type": "textarea",
                "value": {"text": [prediction.text]},
            }
        ],
    }


def pushed(document: ImageDocument, kind: str) -> str:
    """Return a digest of a task's variable parts, except the validity of its URL."""
    parts = [FORM, kind, document.etag, _sources(document), to_prediction(document)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _sources(document: ImageDocument) -> list[str]:
    return [each.url for each in document.sources if each.url][:SHOWN_SOURCES]
