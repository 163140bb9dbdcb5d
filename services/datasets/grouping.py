"""Decide the part of a data set that an image belongs to, so that groups stay in one part.

See docs/decisions/0018-splits-by-hash.md.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from services.common.domain.annotations import compose
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import NO_LIMITS, Limits
from services.datasets.copies import ImageOrigin, provenance_of
from services.datasets.splits import NAMES, Split, parse_split

GROUP, IMAGE, SOURCE, METADATA = "group", "image", "source", "metadata."
GROUPINGS = (GROUP, "document", "page", "collection", SOURCE, IMAGE)


def parse_grouping(text: str) -> str:
    """Validate a grouping.

    Raises:
        ValueError: It is invalid.
    """
    if text in GROUPINGS or (text.startswith(METADATA) and text != METADATA):
        return text
    raise ValueError(f"{text!r} is not a grouping; write {', '.join(GROUPINGS)} or {METADATA}KEY")


@dataclass(frozen=True)
class Splitting:
    """Rule for the parts of a data set.

    Args:
        split: Shares of the parts.
        group_by: One of ``GROUPINGS``, or ``metadata.KEY``.
        use_given: Whether the split that a source has takes precedence over the hash.
        limits: Sources that match them decide before others.
    """

    split: Split
    group_by: str = GROUP
    use_given: bool = False
    limits: Limits = NO_LIMITS

    @classmethod
    def parse(
        cls, split: str, group_by: str, *, use_given: bool = False, limits: Limits = NO_LIMITS
    ) -> "Splitting":
        """Read a rule.

        Raises:
            ValueError: The shares or the grouping are invalid.
        """
        return cls(parse_split(split), parse_grouping(group_by), use_given, limits)

    def place(self, copies: Sequence[ImageDocument]) -> str:
        """Return the part of an image, given all its documents."""
        if self.use_given:
            splits = (each.split for each in provenance_of(copies, self.limits).sources)
            if given := next((each for each in splits if each in NAMES), None):
                return given
        groups = [] if self.group_by == IMAGE else self.groups(copies)
        return self.split.place(groups[0] if groups else str(copies[0].sha256))

    def groups(self, copies: Sequence[ImageDocument]) -> list[str]:
        """Return the groups of an image, given all its documents; the first decides.

        Without the field that was asked for, those are the ``group`` of its sources or the page
        that it is a line of. Without any, and by ``image``, only its bytes decide.
        """
        provenance = provenance_of(copies, self.limits)
        if self.group_by == SOURCE:
            return [source_group(provenance)]
        found = _values(provenance, self.group_by)
        return found or _values(provenance, GROUP)


def source_group(provenance: ImageOrigin) -> str:
    """Return the source of an image as a group.

    The host of its first URL, which never changes; else the collection that it was submitted in,
    or the folder of its key.
    """
    if provenance.hosts:
        return f"host:{provenance.hosts[0]}"
    if provenance.collection:
        return f"collection:{compose(provenance.collection)}"
    return f"folder:{compose(provenance.key.rpartition('/')[0])}"


def _values(provenance: ImageOrigin, group_by: str) -> list[str]:
    """Return the distinct values of a grouping in sources and pages, in their order."""
    sources, pages = provenance.sources, provenance.pages
    key = group_by.removeprefix(METADATA)
    values: list[str | None]
    match group_by:
        case "group":
            values = [*(each.group for each in sources), *provenance.page_groups]
        case "collection":
            values = [each.collection for each in sources]
        case "document":
            values = [each.document for each in pages]
        case "page":
            values = [each.id for each in pages]
        case _:
            values = []
    if group_by not in {GROUP, "collection", IMAGE}:
        values += [_within(each.metadata, key) for each in sources]
    # One name, in whichever normal form lists and file systems have it
    return list(dict.fromkeys(f"{group_by}:{compose(value)}" for value in values if value))


def _within(metadata: object, key: str) -> str | None:
    """Return the value of a key such as ``archive.box``; of no text, as JSON."""
    value = metadata
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
