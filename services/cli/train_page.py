"""Render the report of a training as a self-contained HTML page."""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import pygal
from markupsafe import Markup

from services.cli.report_page import page_template
from services.cli.report_plots import COLOURS, as_picture, chart_options
from services.common.domain.image_formats import sniff
from services.training.course import Course
from services.training.learning import Learned
from services.training.lines import VALIDATION
from services.training.measuring import LineReading, count_confusions

WORST = 30
MOST_CONFUSIONS = 40
SPACE = "\N{OPEN BOX}"


def training_page(learned: Learned) -> str:
    """Return the page, with untrusted text escaped."""
    before, after = (each.get(VALIDATION, []) for each in (learned.before, learned.after))
    return page_template("training.html.j2").render(
        name=learned.place.name,
        version=learned.model_version,
        record=learned.record,
        kept=learned.kept,
        has_failed=learned.has_failed,
        plots=_plots(learned.course),
        confusions=_confusions(before, after),
        worst=_worst(before, after),
    )


def _plots(course: Course) -> list[tuple[str, str, Markup]]:
    losses = [each.loss for each in course.epochs]
    shown = [("Loss", "Of what is learnt from; it should fall.", _curve({"loss": losses}))]
    if any(each.cer is not None for each in course.epochs):
        words = "Of lines that are never learnt from, after each epoch; the lowest one is kept."
        rates: dict[str, Sequence[float | None]] = {
            "character error rate": [each.cer for each in course.epochs],
            "lines with an error": [
                None if each.exact is None else 1 - each.exact for each in course.epochs
            ],
        }
        shown.append(("Validation", words, _curve(rates)))
    return shown


def _curve(lines: Any) -> Markup:
    chart = pygal.Line(**chart_options(COLOURS[: len(lines)]))
    for name, values in lines.items():
        chart.add(name, values)
        chart.x_labels = [str(number + 1) for number in range(len(values))]
    return as_picture(chart)


def _confusions(
    before: Sequence[LineReading], after: Sequence[LineReading]
) -> list[tuple[str, str, int, int]]:
    """Return what is right, what was read for it, and how often before and after."""
    was, now = count_confusions(before), count_confusions(after)
    return [
        (each.reference.replace(" ", SPACE), each.hypothesis.replace(" ", SPACE), was[each], count)
        for each, count in now.most_common(MOST_CONFUSIONS)
    ]


def _worst(before: Sequence[LineReading], after: Sequence[LineReading]) -> list[dict[str, Any]]:
    pairs = sorted(zip(before, after, strict=True), key=lambda pair: -pair[1].errors)
    return [
        {
            "picture": _picture(now.line.content),
            "right": now.line.text,
            "before": was.text,
            "after": now.text,
            "errors": f"{was.errors} → {now.errors}",
            "score": now.score,
        }
        for was, now in pairs[:WORST]
    ]


def _picture(content: bytes) -> str:
    found = sniff(content)
    kind = found.content_type if found else "application/octet-stream"
    return f"data:{kind};base64,{b64encode(content).decode()}"
