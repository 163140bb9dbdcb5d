"""Cut the lines out of an untrusted page in a child process.

See docs/decisions/0027-untrusted-files-in-a-child.md.
"""

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from services.common.domain.errors import PermanentError
from services.common.domain.ground_truth.reading import placed, read_transcript
from services.common.domain.ground_truth.transcript import TextLine, Transcript
from services.common.domain.image_formats import BY_PILLOW_NAME, open_image
from services.common.domain.keys import given_key, line_key
from services.common.domain.line_images import UncuttableLineError, box_of, cut_line, to_webp
from services.common.domain.normal_form import MAX_PIXELS, check_cost, to_normal_form
from services.common.domain.page import PageOfLine, Points, TranscriptKind, line_id
from services.common.runtime.bounded_child import BoundedChild, ChildLimits, InputRefusedError
from services.fetcher.sources.archives.pages import page_size
from services.fetcher.sources.spool import Stop

CUTTING = ChildLimits(1024**3, cpu_seconds=600, max_result_bytes=64 * 1024 * 1024)
MAX_LINES_BYTES = 256 * 1024 * 1024
"""Limit of the images of all lines of a page, which are in memory together."""
_TARGET = "services.fetcher.sources.archives.cutting:lines_in_child"


@dataclass(frozen=True)
class CutLine:
    """A line as an image."""

    content: bytes
    """WebP."""
    page: PageOfLine
    """Its ``id`` is the key of the page, without its bucket."""
    page_sha256: str
    transcript_kind: TranscriptKind

    @property
    def key(self) -> str:
        """Object key by page and position, independent of the pixels."""
        return line_key(self.page_sha256, self.page.line)


def cut_page(file: IO[bytes], transcript_bytes: int, image: str, stop: Stop) -> dict[str, CutLine]:
    """Return the lines of a page by their ids in its transcription.

    Args:
        file: Has a file descriptor: the transcription, and the page's image behind it.
        transcript_bytes: Offset of the image.
        image: Path of the image.
        stop: Cancels the work.

    Raises:
        ChildError: It cannot be read, or costs too much.
        ChildStoppedError, WorkStoppedError: ``stop`` was set.
    """
    lines: dict[str, CutLine] = {}
    size = 0
    with (
        BoundedChild(_TARGET, file, CUTTING, transcript_bytes, image) as child,
        stop.calling(child.kill),
    ):
        for content, page, sha256, kind in child.results():
            line = CutLine(b64decode(content), PageOfLine.model_validate(page), sha256, kind)
            lines[line.page.name or ""] = line
            size += len(line.content)
            if size > MAX_LINES_BYTES:
                raise InputRefusedError(f"its lines have more than {MAX_LINES_BYTES} bytes")
    return lines


def lines_in_child(file: IO[bytes], transcript_bytes: int, image: str) -> Iterator[Any]:
    """Yield each line of a page with its file and position; runs in the child."""
    transcript, content = file.read(transcript_bytes), file.read()
    try:
        size = page_size(content)
        page = placed(read_transcript(transcript), *size)
        with open_image(content) as opened:
            extension = BY_PILLOW_NAME[opened.format or ""].extension
            check_cost(opened, content, MAX_PIXELS)
            opened.load()
            pixels = to_normal_form(opened)
    except (PermanentError, ValueError, OSError) as error:
        raise InputRefusedError(str(error)) from error
    digest = hashlib.sha256(content).hexdigest()
    key = given_key(digest, extension)
    for order, line in enumerate(page.lines):
        try:
            cut = to_webp(cut_line(pixels, line.polygon, line.baseline))
        except UncuttableLineError:
            continue
        of_page = of_line(page, line, order, key).having(image=image)
        yield b64encode(cut).decode(), of_page.to_mongo(), digest, page.kind


def of_line(page: Transcript, line: TextLine, order: int, page_id: str) -> PageOfLine:
    """Return the position of a line on its page, for its document."""
    width, height = int(page.width), int(page.height)
    known = {
        "id": page_id,
        "line": line_id(_pixels(line.polygon), width, height),
        "order": order,
        "image": page.image,
        "name": line.id,
        "width": width,
        "height": height,
        "region": line.region,
        "tags": line.tags or None,
        "quad": _pixels(box_of(line.polygon, line.baseline)),
        "polygon": _pixels(line.polygon),
        "baseline": line.baseline and _pixels(line.baseline),
    }
    return PageOfLine.model_validate(
        {name: value for name, value in known.items() if value is not None}
    )


def _pixels(place: tuple[float, ...]) -> Points:
    return tuple(round(value) for value in place)
