"""Data card of a data set: contents and origin, for people who train with it."""

import json
import re
from collections.abc import Set as AbstractSet

from jinja2 import Environment, PackageLoader, StrictUndefined

from services.common.adapters.image_repository import to_query
from services.common.domain.records import UNKNOWN_HOW, How
from services.datasets.grouping import IMAGE
from services.datasets.manifest import ExportQuery, Format, Manifest
from services.datasets.plan import UNKNOWN_LICENCE, ExportPlan
from services.datasets.selection import filter_of

SHOWN_HOSTS = 50
MOST_NAMES = 5
"""Collections that a title names."""
HUB_LICENCES = frozenset(
    f"{kind}-{version}"
    for kind in ("cc-by", "cc-by-sa", "cc-by-nc", "cc-by-nd", "cc-by-nc-sa", "cc-by-nc-nd")
    for version in ("2.0", "2.5", "3.0", "4.0")
) | {
    *("cc0-1.0", "cc", "pddl", "odc-by", "odbl", "etalab-2.0", "mit", "apache-2.0"),
    UNKNOWN_LICENCE,
}
"""https://huggingface.co/docs/hub/repositories-licenses, those that data sets have."""
MEANINGS = {
    How.GIVEN: "came with a list or a file",
    How.ACCEPTED: "a person saved a prediction as it was shown",
    How.CORRECTED: "a person was shown a prediction and wrote another text",
    How.TRANSCRIBED: "a person wrote it and was shown no prediction",
    UNKNOWN_HOW: "a person, before it was recorded how",
}

_PATTERNS = {Format.HF: "{}/**", Format.PARQUET: "data/{}-*.parquet"}
"""Files of each split for Hugging Face datasets."""


def data_card(manifest: Manifest, plan: ExportPlan) -> str:
    """Return ``README.md``, with untrusted text as code, never as markup."""
    environment = Environment(
        loader=PackageLoader("services.datasets"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701  Markdown; ``code`` is the escape
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"code": as_code, "yaml": as_yaml}
    licences = plan.counts("licence")
    collections = plan.collections(SHOWN_HOSTS)
    pattern = _PATTERNS.get(manifest.query.format)
    return environment.get_template("card.md.j2").render(
        manifest=manifest,
        query=manifest.query,
        filter=to_query(filter_of(manifest.query)),
        paths={name: pattern.format(name) for name in manifest.splits} if pattern else {},
        origins=plan.counts("origin"),
        title=manifest.query.title or _title({name for name, _, _ in collections}),
        size=_size(manifest.images),
        licences=licences,
        hub_licences=list(dict.fromkeys(map(_hub_licence, licences))),
        collections=collections,
        rule=_rule(manifest.query),
        why_split=_why_split(manifest.query),
        meanings=MEANINGS,
        hows=plan.counts("how"),
        models=plan.counts("model"),
        hosts=plan.counts("host", most=SHOWN_HOSTS),
        shown_hosts=SHOWN_HOSTS,
        spreads={"score": plan.spread("score"), "characters of the label": plan.spread("length")},
    )


def _title(collections: AbstractSet[str]) -> str:
    """Return the default title of a data set."""
    names = ", ".join(sorted(collections)) if len(collections) <= MOST_NAMES else ""
    return f"Lines of text with their labels{f': {names}' if names else ''}"


def _size(images: int) -> str:
    """Return the category of a size, as the Hugging Face hub names it."""
    steps = [(1_000, "1K"), (10_000, "10K"), (100_000, "100K"), (1_000_000, "1M")]
    names = [name for _, name in steps]
    below = next((at for at, (most, _) in enumerate(steps) if images < most), len(steps))
    low, high = ["", *names][below], [*names, "10M"][below]
    return f"{low}<n<{high}" if low else f"n<{high}"


def _hub_licence(licence: str) -> str:
    """Return a licence as the Hugging Face hub names it; one that it has no name for is other."""
    name = re.sub(r"[\s_]+", "-", licence.strip().lower())
    return name if name in HUB_LICENCES else "other"


def as_yaml(text: str) -> str:
    """Return text as a quoted scalar of YAML, whatever is in it."""
    return json.dumps("".join(filter(str.isprintable, text)), ensure_ascii=False)


def _rule(query: ExportQuery) -> str:
    """Return how the split of an image is decided, in words."""
    given = "by the split that its source gives, or else " if query.use_split else ""
    name = as_code(query.group_by)
    of = "bytes" if query.group_by == IMAGE else f"{name}, or of its bytes where it has none"
    return f"The split of an image is decided {given}by a hash of its {of}."


def _why_split(query: ExportQuery) -> str:
    """Return why groups may be in more than one split."""
    if query.use_split:
        return "the split that the sources give puts them there"
    if query.group_by == IMAGE:
        return "`--group-by image` does not keep them together"
    return "they have images of equal bytes in common with other groups"


def as_code(value: object) -> str:
    """Return text as escaped inline code."""
    plain = re.sub(r"[^\w -~]|[`|]", "?", str(value))
    return f"`{plain}`"
