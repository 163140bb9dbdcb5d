"""Render the report as a self-contained HTML page."""

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from services.cli.report_figures import Figures
from services.cli.report_plots import plots

ABSENT = "none"


def report_page(figures: Figures, *, critical: float) -> str:
    """Return the page, with untrusted text escaped.

    Args:
        figures: What to show.
        critical: Critical threshold of the mean score.
    """
    return page_template("report.html.j2").render(
        figures=figures,
        numbers=_numbers(figures, critical),
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
    tone = "" if total.mean is None else ("bad" if total.mean < critical else "good")
    return [
        ("Mean score", as_score(total.mean), tone),
        ("Predictions", f"{total.images:,}", ""),
        ("Predictions per minute", f"{figures.per_minute:.2f}", ""),
        (f"Scores under {figures.low_score:g}", f"{total.low:,} ({as_share(total.low_share)})", ""),
        ("Character error rate", as_share(total.error_rate), ""),
        ("Rejected images", f"{figures.rejected.total():,}", ""),
    ]
