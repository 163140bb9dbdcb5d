"""Interface of layouts."""

import json
from typing import Any, Protocol

from services.datasets.manifest import ManifestRecord


class Writer(Protocol):
    """Writes images to a folder, in order."""

    def add(self, record: ManifestRecord, content: bytes, extension: str) -> None:
        """Write one image."""
        ...

    def finish(self) -> None:
        """Finish writing."""
        ...


FACTS = ("name", "collection", "group", "split", "licence", "metadata", "by", "how", "model")
"""Columns of text that tables have of an image beside its label; its score is a number."""


def facts_of(record: ManifestRecord) -> dict[str, Any]:
    """Return what is known of an image beside its label, by ``FACTS``, and its score."""
    facts = record.model_dump(mode="json", include={*FACTS, "score"})
    metadata = record.metadata and json.dumps(record.metadata, ensure_ascii=False)
    model = f"{record.engine} {record.model_version}" if record.model_version else None
    return facts | {"metadata": metadata, "model": model}


def file_name(record: ManifestRecord, extension: str) -> str:
    """Return the name of an image's file, without untrusted parts."""
    return f"{record.sha256}.{extension}"
