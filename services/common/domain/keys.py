"""Keys of objects: each writer has a prefix of its own, and names objects by their bytes."""

FETCHED = "fetched/"
"""Prefix of what the fetcher downloads, in the buckets of line images and of pages."""
COLLECTED = "api/"
"""Prefix of the images of requests to the OCR API."""
REVIEWED = "uploads/"
"""Prefix of images that the review page of earlier versions stored."""
LINES = "lines/"
"""Prefix of the lines of pages, in the bucket of line images."""
RENDERED = "rendered/"
"""Prefix of the pages of a PDF or TIFF, in the bucket of pages."""
GIVEN = "given/"
"""Prefix of pages that came with a transcription, by which the fetcher cuts them."""


def fetched_key(sha256: str, extension: str) -> str:
    """Return the key of a download."""
    return f"{FETCHED}{sha256[:2]}/{sha256}.{extension}"


def collected_key(sha256: str, extension: str) -> str:
    """Return the key of the image of a request."""
    return f"{COLLECTED}{sha256}.{extension}"


def given_key(sha256: str, extension: str) -> str:
    """Return the key of a page that came with a transcription."""
    return f"{GIVEN}{sha256[:2]}/{sha256}.{extension}"


def image_prefixes(sha256: str) -> tuple[str, ...]:
    """Return how the keys of images with these bytes begin, by each writer."""
    return (f"{FETCHED}{sha256[:2]}/{sha256}", f"{COLLECTED}{sha256}", f"{REVIEWED}{sha256}")


def lines_prefix(page_sha256: str) -> str:
    """Return the prefix of the keys of a page's lines."""
    return f"{LINES}{page_sha256[:2]}/{page_sha256}/"


def line_key(page_sha256: str, line: str) -> str:
    """Return the key of a line's image."""
    return f"{lines_prefix(page_sha256)}{line}.webp"


def page_hash(key: str) -> str | None:
    """Return the SHA-256 of the page that a line was cut from, by the line's key."""
    parts = key.split("/")
    return parts[2] if key.startswith(LINES) and len(parts) > 3 else None
