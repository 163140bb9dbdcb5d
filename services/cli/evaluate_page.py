"""Render the evaluation as a self-contained HTML page."""

from collections.abc import Mapping, Sequence

import pygal
from markupsafe import Markup

from services.cli.report_page import page_template
from services.cli.report_plots import COLOURS, as_picture, chart_options
from services.datasets.quality import Comparison, ModelQuality
from services.quality.reliability import BANDS
from services.quality.tally import LENGTHS, length_name

PERFECT = "perfect calibration"


def evaluation_page(
    qualities: Mapping[str, ModelQuality], comparison: Comparison | None, notes: Sequence[str] = ()
) -> str:
    """Return the page, with untrusted text escaped; ``notes``: about what was measured."""
    template = page_template("evaluation.html.j2")
    return template.render(
        qualities=qualities,
        notes=notes,
        verdicts=[] if comparison is None else comparison.verdicts,
        plots=_plots(qualities),
    )


def _plots(qualities: Mapping[str, ModelQuality]) -> list[tuple[str, str, Markup]]:
    return [
        (
            "Calibration",
            "Share of images read without error. Below the dashed line scores are overconfident.",
            _calibration(qualities),
        ),
        (
            "Character error rate by length",
            "Characters of the annotation; short texts are often numbers and names.",
            _by_length(qualities),
        ),
        (
            "Images by score",
            "Where most scores are, calibration matters most.",
            _scores(qualities),
        ),
    ]


def _calibration(qualities: Mapping[str, ModelQuality]) -> Markup:
    chart = pygal.XY(
        **chart_options([*COLOURS[: len(qualities)], "var(--muted)"]), range=(0, 1), xrange=(0, 1)
    )
    for name, quality in qualities.items():
        chart.add(name, [(each.score, each.exact) for each in quality.bins])
    dashes = {"dasharray": "6,6", "width": 2}
    chart.add(PERFECT, [(0, 0), (1, 1)], show_dots=False, stroke_style=dashes)
    return as_picture(chart)


def _by_length(qualities: Mapping[str, ModelQuality]) -> Markup:
    chart = pygal.Bar(**chart_options(COLOURS[: len(qualities)]))
    names = [length_name(band) for band in LENGTHS]
    chart.x_labels = names
    for name, quality in qualities.items():
        rates = [quality.by_length.get(band) for band in names]
        chart.add(name, [None if each is None else each.cer for each in rates])
    return as_picture(chart)


def _scores(qualities: Mapping[str, ModelQuality]) -> Markup:
    chart = pygal.Bar(**chart_options(COLOURS[: len(qualities)]))
    edges = [place / BANDS for place in range(BANDS)]
    chart.x_labels = [f"{edge:g}" for edge in edges]
    for name, quality in qualities.items():
        counts = {each.low: each.images for each in quality.bins}
        chart.add(name, [counts.get(edge, 0) for edge in edges])
    return as_picture(chart)
