"""Images of lines in the bucket, and their annotation state."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.object_store import ObjectStore
from services.common.domain.events import ObjectEvent
from services.common.domain.image_filter import ImageFilter
from services.common.domain.keys import GIVEN, lines_prefix, page_hash
from services.common.domain.page import Line
from services.common.domain.pieces import in_pieces
from services.common.domain.provenance import Provenance, from_metadata
from services.segmenter.pictures import DecodedPage, cut_lines
from services.segmenter.provenance import line_metadata
from services.segmenter.settings import TextLayerUse
from services.segmenter.text_layer import proposal_of

CONTENT_TYPE = "image/webp"
PARALLEL = 8
"""Concurrent writes."""


class LineStore:
    """Writes, deletes and looks up images of lines.

    Args:
        store: Bucket of images.
        images: Their documents; only read.
        text_layer: What becomes of the text of PDFs.
    """

    def __init__(
        self,
        store: ObjectStore,
        images: ImageRepository,
        *,
        text_layer: TextLayerUse = "propose",
    ) -> None:
        self._store = store
        self._text_layer = text_layer
        self._images = images

    async def write(
        self,
        lines: Sequence[Line],
        picture: DecodedPage,
        event: ObjectEvent,
        provenance: Provenance,
    ) -> None:
        """Cut lines out and store each once, as its annotation belongs to these bytes."""
        for group in in_pieces(lines, PARALLEL):
            contents = await asyncio.to_thread(cut_lines, picture, group)
            await asyncio.gather(
                *(
                    self._store.write_once(
                        str(line.key),
                        content,
                        content_type=CONTENT_TYPE,
                        metadata=self._metadata(line, picture, event, provenance),
                    )
                    for line, content in zip(group, contents, strict=True)
                )
            )

    def _metadata(
        self, line: Line, picture: DecodedPage, event: ObjectEvent, provenance: Provenance
    ) -> Mapping[str, str]:
        text = proposal_of(picture.layer, line.quad) if self._text_layer != "ignore" else None
        accepted = text if self._text_layer == "accept" else None
        return line_metadata(
            line, event, replace(provenance, annotation=accepted), picture.size, text=text
        )

    async def delete(self, lines: Sequence[Line]) -> list[Line]:
        """Delete images of lines; their events reach the consumer.

        Returns:
            Those that are annotated by now, and stay.
        """
        spared = []
        for line in lines:
            if await self.judged([line]):
                spared.append(line)
            elif line.key is not None:
                await self.erase(line.key)
        return spared

    async def erase(self, key: str) -> None:
        """Delete the image of a line."""
        await self._store.delete(key)

    async def keys(self, sha256: str, *, pages_bucket: str | None = None) -> list[str]:
        """Return the keys of the images of all lines of a page, of any run.

        Args:
            sha256: Of the page.
            pages_bucket: Without those from a transcription of the same page in an archive, which
                are not the segmenter's.
        """
        listed = [info.key async for info in self._store.list(lines_prefix(sha256))]
        if pages_bucket is None:
            return listed
        own = []
        for key in listed:
            info = await self._store.head(key)
            page = from_metadata(dict(info.metadata)).page if info else None
            page_key = page.id.removeprefix(f"{pages_bucket}/") if page else ""
            if page and page_key != page.id and not page_key.startswith(GIVEN):
                own.append(key)
        return own

    async def hashes(self, page_id: str) -> set[str]:
        """Return the hashes of the bytes of a page whose lines have documents."""
        where = ImageFilter(pages=frozenset({page_id}))
        found = self._images.find(where, fields={"key": 1})
        return {sha256 async for image in found if (sha256 := page_hash(image.key)) is not None}

    async def are_annotated(self, keys: Sequence[str]) -> bool:
        """Return whether any of the lines with these keys has an annotation, or had one."""
        return bool(await self.judged([Line(id=key, key=key) for key in keys]))

    async def judged(self, lines: Sequence[Line]) -> set[str]:
        """Return the ids of lines that have an annotation, or had one."""
        by_document = {f"{self._store.bucket}/{line.key}": line.id for line in lines}
        where = ImageFilter(ids=frozenset(by_document))
        fields = {"annotation": 1, "annotation_history": 1}
        found = self._images.find(where, fields=fields)
        return {
            by_document[image.id]
            async for image in found
            if image.annotation or image.annotation_history
        }
