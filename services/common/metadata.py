"""User metadata of an object in ``raw``: where the image came from, as header-safe ASCII."""

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, unquote

MAX_METADATA_BYTES = 1800
"""S3 allows 2 KiB of user metadata, names included; the rest is room for other writers' names."""


@dataclass(frozen=True)
class Provenance:
    """Where a stored image came from; every field is None for a plain upload."""

    source_url: str | None = None
    """ASCII, percent-encoded where the URL itself is."""
    batch_id: str | None = None
    annotation: str | None = None
    fetched_at: datetime | None = None
    fetch_id: str | None = None
    """``_id`` in ``fetches``, which has what is too long for a header."""


def to_metadata(provenance: Provenance) -> dict[str, str]:
    """Encode as user metadata; what does not fit leaves ``fetch-id`` as the way to find it."""
    metadata: dict[str, str] = {}
    if provenance.fetch_id is not None:
        metadata["fetch-id"] = provenance.fetch_id
    if provenance.batch_id is not None:
        metadata["batch-id"] = provenance.batch_id
    if provenance.fetched_at is not None:
        metadata["fetched-at"] = provenance.fetched_at.isoformat()
    if provenance.source_url is not None:
        _add_if_it_fits(metadata, "source-url", provenance.source_url)
    if provenance.annotation is not None:
        _add_if_it_fits(metadata, "annotation", quote(provenance.annotation, safe=""))
    return metadata


def from_metadata(metadata: dict[str, str]) -> Provenance:
    """Decode user metadata; a value that anybody else wrote badly is left out, never an error."""
    annotation = metadata.get("annotation")
    return Provenance(
        source_url=metadata.get("source-url") or None,
        batch_id=metadata.get("batch-id") or None,
        annotation=unquote(annotation, errors="replace") if annotation is not None else None,
        fetched_at=_parse_time(metadata.get("fetched-at")),
        fetch_id=metadata.get("fetch-id") or None,
    )


def _add_if_it_fits(metadata: dict[str, str], name: str, value: str) -> None:
    used = sum(len(key) + len(text) for key, text in metadata.items())
    if used + len(name) + len(value) <= MAX_METADATA_BYTES:
        metadata[name] = value


def _parse_time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo is not None else None
