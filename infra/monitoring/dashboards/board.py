"""Parts of a dashboard beside its panels: rows, annotations, links, data source variable."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    Row,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import (
    Dashboard as DashboardModel,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    Panel,
)

from infra.monitoring.dashboards.panels import DATASOURCE, RED

TAG = "docreco"
IN_SIGHT = ""
"""Placement of links and marks; the library's default hides them in a menu."""


@dataclass(frozen=True)
class Block:
    """A titled row of panels, one after the other, each with its width of 24 and its height."""

    title: str
    panels: Sequence[Builder[Panel]]


def dashboard(
    title: str, *, uid: str, description: str, since: str, blocks: Sequence[Block]
) -> DashboardModel:
    """Return a dashboard of blocks, with annotations, links and data source variable."""
    board = (
        Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time(since, "now")
        .refresh("10s")
        .timezone("browser")
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .link(
            DashboardLink("Dashboards")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .keep_time(True)
            .placement(IN_SIGHT)
        )
    )
    for mark in _marks():
        board = board.annotation(mark)
    for block in blocks:
        board = board.with_row(Row(block.title))
        for panel in block.panels:
            board = board.with_panel(panel)
    built = board.build()
    for number, placed in enumerate(built.panels or [], start=1):
        placed.id_val = number
    return built


def _marks() -> list[AnnotationQuery]:
    new_model = (
        "count by (engine, model_version) (ocr_prediction_score_count)"
        " unless count by (engine, model_version)"
        " (last_over_time(ocr_prediction_score_count[1d] offset 5m))"
    )
    return [
        _mark("Model changes", new_model, "New model", "{{engine}} {{model_version}}", "blue"),
        _mark(
            "Alerts",
            'max by (alertname, severity) (ALERTS{alertstate="firing"})',
            "{{alertname}}",
            "{{severity}}",
            RED,
        ),
    ]


def _mark(name: str, expr: str, title: str, text: str, color: str) -> AnnotationQuery:
    return (
        AnnotationQuery()
        .name(name)
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color(color)
        .expr(expr)
        .title_format(title)
        .text_format(text)
        .step("30s")
        .placement(IN_SIGHT)
    )
