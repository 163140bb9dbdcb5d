"""Render the report as a self-contained HTML page."""

from collections.abc import Mapping
from types import MappingProxyType

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from services.cli.report_figures import Figures
from services.cli.report_plots import plots
from services.quality.tally import Tally

ABSENT = "none"
CRITICAL_CER = 0.2
"""Threshold of the alert ``OcrAnnotatedErrorRateHigh``."""
NO_THUMBNAILS: Mapping[str, str] = MappingProxyType({})


def report_page(
    figures: Figures, *, critical: float, thumbnails: Mapping[str, str] = NO_THUMBNAILS
) -> str:
    """Return the page, with untrusted text escaped."""
    return page_template("report.html.j2").render(
        figures=figures,
        numbers=_numbers(figures, critical),
        thumbnails=thumbnails,
        plots=plots(figures, critical=critical),
    )


def page_template(name: str) -> Template:
    """Return a page's template, with autoescaping."""
    environment = Environment(
        loader=PackageLoader("services.cli"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {"score": as_score, "share": as_share}
    return environment.get_template(name)


def as_score(value: float | None) -> str:
    """Format a score."""
    return ABSENT if value is None else f"{value:.3f}"


def as_share(value: float | None) -> str:
    """Format a share."""
    return ABSENT if value is None else f"{value:.1%}"


def _numbers(figures: Figures, critical: float) -> list[tuple[str, str, str]]:
    total = figures.total
    is_misread = total.error_rate is not None and total.error_rate > CRITICAL_CER
    tone = "" if total.mean is None or is_misread else "good"
    if total.mean is not None and total.mean < critical:
        tone = "bad"
    return [
        ("Mean score", as_score(total.mean), tone),
        ("Predictions", f"{total.images:,}", ""),
        ("Predictions per minute", f"{figures.per_minute:.2f}", ""),
        (f"Scores under {figures.low_score:g}", f"{total.low:,} ({as_share(total.low_share)})", ""),
        (_expected(total), as_share(total.expected_error_rate), ""),
        ("Character error rate", as_share(total.error_rate), "bad" if is_misread else ""),
        ("Rejected images", f"{figures.rejected.total():,}", ""),
    ]


def _expected(total: Tally) -> str:
    words = "Expected character error rate of texts that were read"
    left_out = total.images - total.expected_images
    return f"{words}; {left_out:,} predictions without one left out" if left_out else words
