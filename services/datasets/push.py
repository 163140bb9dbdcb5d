"""Upload a finished export to a prefix of a bucket."""

import asyncio
import mimetypes
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from services.common.adapters.object_store import ObjectStore
from services.common.domain.errors import ObjectNotFoundError, PermanentError
from services.datasets.folder import SUMS, listed
from services.datasets.manifest import FILE, Manifest

AT_ONCE = 16
"""Concurrent uploads."""
BYTES_AT_ONCE = 64 * 1024 * 1024
"""Memory of concurrent uploads; a larger file is uploaded alone."""
MAX_LIST_BYTES = 512 * 1024 * 1024
"""Largest checksum file of an earlier push: about 5 million files."""


class UnacceptableTargetError(PermanentError):
    """The target can't be used."""

    code = "unacceptable_target"


def parse_target(text: str, *, collected: str) -> tuple[str, str]:
    """Return bucket and prefix of ``s3://bucket/prefix``.

    Args:
        text: Given by a person.
        collected: The bucket of collected images, which is refused.

    Raises:
        UnacceptableTargetError: It is invalid, or that bucket.
    """
    scheme, separator, rest = text.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not separator or not bucket:
        raise UnacceptableTargetError(f"{text!r} is not an address such as s3://bucket/prefix")
    if bucket == collected:
        raise UnacceptableTargetError(f"files in {bucket} would be collected as images again")
    return bucket, prefix.strip("/")


async def push(
    folder: Path, store: ObjectStore, prefix: str, progress: Callable[[int, int], None]
) -> int:
    """Upload the files of an export to a prefix; return their number.

    The manifest is written last. Files of an earlier push that are not in this export are deleted;
    nothing else is. Checksums without a valid manifest are not an earlier push.

    Raises:
        ObjectStoreUnavailableError: The server does not answer, or refuses.
    """
    base = f"{prefix}/" if prefix else ""
    before = await _listed_there(store, base)
    total = sum(1 for _ in listed(folder)) + 1
    done = 0
    first = (name for name in listed(folder) if name != FILE)
    for names in _chunks(first, lambda name: (folder / name).stat().st_size):
        await asyncio.gather(*(_write(store, folder, base, name) for name in names))
        done += len(names)
        progress(done, total)
    for names in _chunks(name for name in before if not (folder / name).exists()):
        await asyncio.gather(*(store.delete(f"{base}{name}") for name in names))
    for name in (SUMS, FILE):
        await _write(store, folder, base, name)
    progress(total, total)
    return total


async def _write(store: ObjectStore, folder: Path, base: str, name: str) -> None:
    content = await asyncio.to_thread((folder / name).read_bytes)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    await store.write(f"{base}{name}", content, content_type=kind, metadata={})


async def _listed_there(store: ObjectStore, base: str) -> list[str]:
    try:
        manifest = await store.read(f"{base}{FILE}", max_bytes=MAX_LIST_BYTES)
        Manifest.model_validate_json(manifest.content)
        sums = (await store.read(f"{base}{SUMS}", max_bytes=MAX_LIST_BYTES)).content
    except (ObjectNotFoundError, ValidationError):
        return []
    return [line.partition("  ")[2] for line in sums.decode(errors="replace").splitlines()]


def _chunks(
    names: Iterator[str], size_of: Callable[[str], int] = lambda _: 0
) -> Iterator[list[str]]:
    """Yield batches of names within the memory limit."""
    chunk: list[str] = []
    held = 0
    for name in names:
        size = size_of(name)
        if len(chunk) == AT_ONCE or (chunk and held + size > BYTES_AT_ONCE):
            yield chunk
            chunk, held = [], 0
        chunk.append(name)
        held += size
    if chunk:
        yield chunk
