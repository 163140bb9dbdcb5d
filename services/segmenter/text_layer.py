"""Text of a PDF at its place: what its author wrote, as a proposal for the lines of a page.

PDFium gives the characters of a page with their boxes. The child that renders the page keeps them
in the file of its picture (the EXIF field ImageDescription), so that both are written, forgotten
and deleted together. Characters that cannot be seen are left out: they are what another program
read in a scan, or covered. See docs/decisions/0050-text-layer-as-a-proposal.md.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from pydantic import Field, TypeAdapter, ValidationError

from services.common.domain.page import ProposedText, Quad

MOST_CHARACTERS = 20_000
"""Of a page; the text of one with more is not taken."""
DAMAGED = "\ufffd"
"""Stands for a character whose meaning the PDF does not say."""
MARK = "docreco text layer 1 "
"""Beginning of a description that is a text layer."""


_Pixel = Annotated[int, Field(ge=-(2**31), lt=2**31)]


@dataclass(frozen=True)
class TextLayer:
    """The visible characters of a page in their order."""

    text: str = ""
    at: Sequence[_Pixel] = ()
    """``x, y`` of the middle of each character, in pixels of the page; -1: of white space."""
    hidden: Annotated[int, Field(ge=0, le=MOST_CHARACTERS)] = 0
    """Characters that cannot be seen."""

    def of(self, quad: Quad) -> str:
        """Return the text within a line, which may be empty or have ``DAMAGED`` characters."""
        places = np.asarray(self.at, np.float64).reshape(-1, 2)
        corners = np.asarray(quad, np.float64).reshape(4, 2)
        sides = np.roll(corners, -1, axis=0) - corners
        inside: NDArray[np.bool_] = np.ones(len(places), bool)
        for corner, (dx, dy) in zip(corners, sides, strict=True):
            inside &= dx * (places[:, 1] - corner[1]) - dy * (places[:, 0] - corner[0]) >= 0
        parts, last = list[str](), -1
        for number in np.flatnonzero(inside).tolist():
            parts += [" "] if last >= 0 and number > last + 1 else []
            parts.append(self.text[number])
            last = number
        return " ".join("".join(parts).split())


NO_TEXT = TextLayer()


def proposal_of(layer: TextLayer, quad: Quad) -> str | None:
    """Return the text to propose for a line; None: there is none, or it is damaged."""
    text = layer.of(quad)
    return text if text and DAMAGED not in text else None


def count_texts(layer: TextLayer, quads: Iterable[Quad]) -> ProposedText | None:
    """Count the lines by what is proposed for them; None: the page has no text layer."""
    if not layer.text and not layer.hidden:
        return None
    texts = [layer.of(quad) for quad in quads]
    damaged = sum(DAMAGED in text for text in texts)
    proposed = sum(bool(text) for text in texts) - damaged
    return ProposedText(proposed=proposed, damaged=damaged, hidden=layer.hidden)


def to_exif(layer: TextLayer) -> bytes:
    """Return the metadata of a picture that keeps a layer; empty if there is nothing to keep."""
    if not layer.text.strip() and not layer.hidden:
        return b""
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = MARK + json.dumps(asdict(layer), separators=(",", ":"))
    return exif.tobytes()


def from_exif(description: str) -> TextLayer:
    """Return the layer that a picture keeps; empty if it keeps none, or it is damaged."""
    if not description.startswith(MARK):
        return NO_TEXT
    try:
        said = description.removeprefix(MARK)
        layer = TypeAdapter(TextLayer).validate_json(said, strict=True)
    except ValidationError:
        return NO_TEXT
    is_whole = len(layer.at) == 2 * len(layer.text) <= 4 * MOST_CHARACTERS
    return layer if is_whole else NO_TEXT
