"""Plots of the report: inline SVG in the page's colours, without scripts."""

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from xml.etree.ElementTree import Element

import pygal
from markupsafe import Markup
from pygal.style import Style

from services.cli.report_figures import BINS, Figures

# The library's import hook, for unused plug-ins, is of a kind removed in Python 3.12: it would warn
# at every module that is not found, and break callers of importlib
sys.meta_path[:] = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]

COLOURS = ("var(--one)", "var(--two)", "var(--three)", "var(--four)", "var(--five)")
LIMIT = "critical threshold"
MOST_LABELS = 5
STYLE = {
    "background": "transparent",
    "plot_background": "transparent",
    "foreground": "var(--muted)",
    "foreground_strong": "var(--ink)",
    "foreground_subtle": "var(--grid)",
    "guide_stroke_color": "var(--grid)",
    "major_guide_stroke_color": "var(--grid)",
    "font_family": "inherit",
    "label_font_size": 11,
    "major_label_font_size": 11,
    "legend_font_size": 12,
    "opacity": ".85",
    "transition": "0s",
}
Point = tuple[datetime, float | None]


def plots(figures: Figures, *, critical: float) -> list[tuple[str, str, Markup]]:
    """Return title, explanation and SVG of each plot; character errors only if known."""
    times = list(figures.times())
    limit = [(times[0], critical), (times[-1], critical)]
    total = figures.buckets
    shown = [
        (
            "Mean score over time",
            "Below the dashed line, the critical threshold, predictions are not to be trusted.",
            _lines({"mean score": _over(times, total, "mean")}, limit=limit, top=1),
        ),
        (
            "Predictions per minute",
            "How many images were read. A gap while images arrived is a fault of the pipeline.",
            _lines({"predictions per minute": _rates(figures, times)}),
        ),
        (
            "Share of low scores",
            f"The part of the predictions with a score under {figures.low_score:g}.",
            _lines({"share of low scores": _over(times, total, "low_share")}, top=1),
        ),
        (
            "Score distribution",
            "One peak at the right is good; a second one is a kind of image that is read badly.",
            _histogram(figures.distribution),
        ),
        (
            "Mean score by model version",
            "A version that stays under the one before reads worse, or other images.",
            _lines(
                {
                    model: _over(times, tallies, "mean")
                    for model, tallies in sorted(figures.by_model.items())
                },
                limit=limit,
                top=1,
            ),
        ),
    ]
    if figures.total.characters:
        rate = _lines({"character error rate": _over(times, total, "error_rate")})
        shown.append(
            (
                "Character error rate",
                "Wrong, missing and superfluous characters per character of the annotations.",
                rate,
            )
        )
    return shown


def _over(times: Sequence[datetime], tallies: Any, name: str) -> list[Point]:
    return [(time, getattr(tallies[time], name) if time in tallies else None) for time in times]


def _rates(figures: Figures, times: Sequence[datetime]) -> list[Point]:
    minutes = figures.width.total_seconds() / 60
    return [
        (time, figures.buckets[time].images / minutes if time in figures.buckets else 0.0)
        for time in times
    ]


def _lines(
    lines: dict[str, list[Point]], *, limit: Sequence[Point] = (), top: float | None = None
) -> Markup:
    colours = [COLOURS[number % len(COLOURS)] for number in range(len(lines))]
    chart = pygal.DateTimeLine(
        **chart_options([*colours, "var(--bad)"]),
        x_value_formatter=lambda time: time.strftime("%d %b\u00a0%H:%M"),
        x_labels=_labels(lines),
        show_legend=len(lines) + bool(limit) > 1,
        range=(0, top) if top is not None else None,
        include_x_axis=True,
        dots_size=2.5,
        allow_interruptions=True,
    )
    for name, points in lines.items():
        chart.add(name, points, stroke_style={"width": 2})
    if limit:
        dashes = {"dasharray": "6,6", "width": 2}
        chart.add(LIMIT, list(limit), show_dots=False, stroke_style=dashes)
    return as_picture(chart)


def _labels(lines: dict[str, list[Point]]) -> list[datetime]:
    """Return a subset of the times whose labels do not overlap."""
    times = [time for time, _ in next(iter(lines.values()), [])]
    return times[:: max(1, len(times) // MOST_LABELS)][:MOST_LABELS]


def _histogram(counts: Sequence[int]) -> Markup:
    chart = pygal.Bar(**chart_options(["var(--one)"]), show_minor_x_labels=False, show_legend=False)
    chart.x_labels = [f"{number / BINS:g}" for number in range(BINS)]
    chart.x_labels_major = [f"{number / BINS:g}" for number in range(0, BINS, 2)]
    chart.add("predictions by score", list(counts))
    return as_picture(chart)


def chart_options(colours: Sequence[str]) -> dict[str, Any]:
    """Return the common configuration of charts."""
    return {
        "style": Style(**STYLE, colors=tuple(colours)),
        "js": [],
        "width": 560,
        "height": 270,
        "margin": 6,
        "legend_at_bottom": True,
        "disable_xml_declaration": True,
        "show_x_guides": False,
        "no_data_text": "nothing in this period",
        "truncate_label": -1,
    }


def as_picture(chart: Any) -> Markup:
    """Return a chart as SVG without scripts and comments."""
    chart.add_xml_filter(_picture_only)
    return Markup(chart.render(is_unicode=True))  # noqa: S704  the library escapes all texts


def _picture_only(root: Element) -> Element:
    for parent in list(root.iter()):
        for child in list(parent):
            is_remark = not isinstance(child.tag, str)
            if is_remark or child.tag.endswith("script"):
                parent.remove(child)
    return root
