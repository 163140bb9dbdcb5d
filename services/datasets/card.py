"""The data card: what a data set holds and where it comes from, for whoever trains with it."""

import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from services.common.adapters.image_query import to_query
from services.common.domain.records import UNKNOWN_HOW, How
from services.datasets.manifest import Format, Manifest
from services.datasets.plan import Plan
from services.datasets.selection import filter_of

SHOWN_HOSTS = 50
MEANINGS = {
    How.GIVEN: "came with a list or a file",
    How.ACCEPTED: "a person saved a prediction as it was shown",
    How.CORRECTED: "a person was shown a prediction and wrote another text",
    How.TRANSCRIBED: "a person wrote it and was shown no prediction",
    UNKNOWN_HOW: "a person, before it was recorded how",
}

_PATTERNS = {Format.HF: "{}/**", Format.PARQUET: "data/{}-*.parquet"}
"""Where Hugging Face datasets finds each split."""


def data_card(manifest: Manifest, plan: Plan) -> str:
    """Return ``README.md``: whatever strangers wrote stands there as code, never as markup."""
    environment = Environment(
        loader=PackageLoader("services.datasets"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701  Markdown; ``code`` is the escape
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = as_code
    pattern = _PATTERNS.get(manifest.query.format)
    return environment.get_template("card.md.j2").render(
        manifest=manifest,
        query=manifest.query,
        filter=to_query(filter_of(manifest.query)),
        paths={name: pattern.format(name) for name in manifest.splits} if pattern else {},
        origins=plan.counts("origin"),
        meanings=MEANINGS,
        hows=plan.counts("how"),
        models=plan.counts("model"),
        hosts=plan.counts("host", most=SHOWN_HOSTS),
        shown_hosts=SHOWN_HOSTS,
        spreads={"score": plan.spread("score"), "characters of the label": plan.spread("length")},
    )


def as_code(value: object) -> str:
    """Return text as inline code that nothing in it can end."""
    return f"`{re.sub(r'[^ -~]|[`|]', '?', str(value))}`"
