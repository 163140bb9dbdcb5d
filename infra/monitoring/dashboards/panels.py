"""Builders of panels; each has a title, advice, a unit and the data source variable."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import common, heatmap, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders.common import VizLegendOptions
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery as AnyQuery
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    DataSourceRef,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DynamicConfigValue,
    Panel,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
PARTITIONS = 'queue=~"fetch[.]jobs[.].+"'
INTERVAL = "[$__rate_interval]"
MEDIAN = 0.5
GREEN, ORANGE, RED = "green", "orange", "red"
NONE_IS_WELL = ((None, GREEN), (1, RED))
"""Colours of numbers that should be zero."""


@dataclass(frozen=True)
class Query:
    """One expression of a panel.

    Args:
        expr: PromQL.
        legend: Name of each series; ``{{label}}`` is a label's value.
        is_limit: Drawn as a dashed red line that nothing should cross.
    """

    expr: str
    legend: str
    is_limit: bool = False


def depths(others: str) -> list[Query]:
    """Return the depths of queues: one line each, and one for all partitions of ``fetch.jobs``.

    Args:
        others: Matcher of the queues that are not partitions.
    """
    return [
        Query(f"sum(rabbitmq_queue_messages{{{PARTITIONS}}})", "fetch.jobs"),
        Query(f"sum by (queue) (rabbitmq_queue_messages{{{others}}})", "{{queue}}"),
    ]


def quantiles(histogram: str, *shares: float) -> list[Query]:
    """Return quantiles of a histogram, of all its series together."""
    buckets = f"sum by (le) (rate({histogram}_bucket{INTERVAL}))"
    return [
        Query(
            f"histogram_quantile({share}, {buckets})",
            "median" if share == MEDIAN else f"{round(100 * share)} of 100",
        )
        for share in shares
    ]


def per_minute(metric: str, legend: str = "", *, by: str = "", present: bool = False) -> Query:
    """Return the events a minute of a counter.

    Args:
        metric: The counter.
        legend: Name of the series; with ``by`` they are named by their labels.
        by: Labels, each of whose values is a series.
        present: Leave out what stands still.
    """
    total, shown = f"sum by ({by}) " if by else "sum", " > 0" if present else ""
    names = " ".join(f"{{{{{each}}}}}" for each in by.split(", "))
    return Query(f"{total}(rate({metric}{INTERVAL})) * 60{shown}", legend or names)


class _PanelBuilder(Protocol):
    """Common interface of the library's panel builders."""

    def title(self, title: str) -> Self: ...
    def description(self, description: str) -> Self: ...
    def unit(self, unit: str) -> Self: ...
    def datasource(self, datasource: DataSourceRef) -> Self: ...
    def with_target(self, target: Builder[AnyQuery]) -> Self: ...
    def height(self, h: int) -> Self: ...
    def span(self, w: int) -> Self: ...


PanelT = TypeVar("PanelT", bound=_PanelBuilder)


def series(
    title: str,
    advice: str,
    unit: str,
    *queries: Query,
    width: int = 12,
    stacked: bool = False,
    bars: bool = False,
    top: float | None = None,
) -> Builder[Panel]:
    """Return a plot over time.

    Args:
        title: Shown title.
        advice: Meaning, and what to do about bad values.
        unit: Grafana's name of the unit.
        queries: The lines.
        width: Columns of 24.
        stacked: Draw the lines on top of each other.
        bars: Draw bars.
        top: End of the axis, for shares and scores, which begin at 0.
    """
    panel = timeseries.Panel().min(0).span_nulls(60_000).fill_opacity(8).line_width(2)
    panel = panel.show_points(VisibilityMode.AUTO).tooltip(
        common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI)
    )
    panel = panel.legend(
        VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    if top is not None:
        panel = panel.max(top)
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(25)
    if bars:
        panel = panel.draw_style(GraphDrawStyle.BARS).fill_opacity(60)
    for query in queries:
        if query.is_limit:
            panel = panel.override_by_name(query.legend, _limit_line())
    return _filled(panel, title, advice, unit, queries, width=width, height=8)


def number(
    title: str,
    advice: str,
    unit: str,
    query: Query,
    *,
    width: int = 4,
    steps: Sequence[tuple[float | None, str]] = ((None, GREEN),),
    decimals: int | None = 0,
    names: dict[str, str] | None = None,
) -> Builder[Panel]:
    """Return one large number per series of a query, the current value.

    An instant query: the last value of a range would be shown long after the series has ended.

    Args:
        title: Shown title.
        advice: Meaning, and what to do about bad values.
        unit: Grafana's name of the unit.
        query: PromQL.
        width: Columns of 24.
        steps: Lower bounds of colours; the first is None.
        decimals: Digits after the point.
        names: Words in place of values.
    """
    panel = (
        stat.Panel()
        .graph_mode(BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(steps))
        .mappings([_named(names)] if names else [])
        .no_value("none")
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    return _filled(panel, title, advice, unit, [query], width=width, height=4, is_instant=True)


def states(
    title: str, advice: str, query: Query, *, names: dict[str, str], width: int = 12
) -> Builder[Panel]:
    """Return a timeline of healthy (1) and unhealthy (0) times of each series."""
    panel = (
        statetimeline.Panel()
        .thresholds(_thresholds(((None, RED), (1, GREEN))))
        .mappings([_named(names)])
        .show_value(VisibilityMode.NEVER)
        .row_height(0.8)
    )
    return _filled(panel, title, advice, "none", [query], width=width, height=8)


def heat(title: str, advice: str, unit: str, query: Query) -> Builder[Panel]:
    """Return a heat map of a histogram's buckets over time."""
    panel = (
        heatmap.Panel()
        .color(
            heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(32)
        )
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .cell_gap(1)
    )
    return _filled(
        panel, title, advice, unit, [query], width=12, height=8, form=PromQueryFormat.HEATMAP
    )


def _filled(
    panel: PanelT,
    title: str,
    advice: str,
    unit: str,
    queries: Sequence[Query],
    *,
    width: int,
    height: int,
    form: PromQueryFormat = PromQueryFormat.TIME_SERIES,
    is_instant: bool = False,
) -> PanelT:
    panel = panel.title(title).description(advice).unit(unit).datasource(DATASOURCE)
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        target = Dataquery().ref_id(letter).expr(query.expr).legend_format(query.legend)
        target = target.instant() if is_instant else target.range()
        panel = panel.with_target(target.datasource(DATASOURCE).format(form))
    return panel.span(width).height(height)


def _thresholds(steps: Sequence[tuple[float | None, str]]) -> ThresholdsConfig:
    return (
        ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=color) for value, color in steps])
    )


def _limit_line() -> list[DynamicConfigValue]:
    return [
        DynamicConfigValue("color", {"mode": "fixed", "fixedColor": RED}),
        DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 8]}),
        DynamicConfigValue("custom.fillOpacity", 0),
        DynamicConfigValue("custom.showPoints", "never"),
    ]


def _named(names: dict[str, str]) -> ValueMap:
    return ValueMap({value: ValueMappingResult(text=text) for value, text in names.items()})
