"""Grafana's files: generated from code, valid by schema, every expression parsed."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import promql_parser
import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard

from infra.monitoring.generate import FOLDER, main, stale_files, write_files
from infra.monitoring.provisioning import grafana_alerts
from infra.monitoring.rules import critical_threshold, rules
from tests.support import expressions

SCHEMAS = Path(__file__).parent / "schemas"
BOARDS = sorted((FOLDER / "dashboards").glob("*.json"))
PROVISIONING = sorted((FOLDER / "provisioning").rglob("*.yml"))
EXPRESSIONS = [
    *expressions.dashboard_expressions(rate_interval="20s", period="1h"),
    *expressions.alert_expressions(),
    *expressions.recording_expressions(),
]


def panels(path: Path) -> list[dict[str, Any]]:
    return [panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row"]


def grafana_rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "provisioning/alerting/rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_committed_files_are_those_that_the_code_makes() -> None:
    assert stale_files() == [], "run python -m infra.monitoring.generate"
    assert main(["--check"]) == 0


def test_stale_missing_and_extra_files_are_told_and_mended(tmp_path: Path) -> None:
    write_files(tmp_path)
    board, left = tmp_path / "dashboards/quality.json", tmp_path / "provisioning/old.yml"
    board.write_text("{}")
    left.write_text("")
    (tmp_path / "dashboards/fetcher.json").unlink()
    assert [str(path) for path in stale_files(tmp_path)] == [
        "dashboards/fetcher.json",
        "dashboards/quality.json",
        "provisioning/old.yml",
    ]
    write_files(tmp_path)
    assert stale_files(tmp_path) == []


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_dashboard_is_valid(path: Path) -> None:
    board = json.loads(path.read_text())
    jsonschema.validate(board, json.loads((SCHEMAS / "grafana_dashboard.json").read_text()))
    assert Dashboard.from_json(board).title == board["title"]


@pytest.mark.parametrize("path", PROVISIONING, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_provisioning_file_is_valid(path: Path) -> None:
    schema = json.loads((SCHEMAS / "grafana_provisioning.json").read_text())
    found = jsonschema.Draft202012Validator(schema).iter_errors(yaml.safe_load(path.read_text()))
    assert [error.message for error in found] == []


@pytest.mark.parametrize("path", PROVISIONING, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_grafana_would_replace_nothing_in_provisioning_files(path: Path) -> None:
    assert "$" not in path.read_text()


def test_uids_and_panel_numbers_are_unique() -> None:
    groups = yaml.safe_load((FOLDER / "provisioning/alerting/rules.yml").read_text())["groups"]
    uids = [json.loads(path.read_text())["uid"] for path in BOARDS]
    uids += [rule["uid"] for group in groups for rule in group["rules"]]
    assert len(uids) == len(BOARDS) + len(grafana_alerts()) + 1
    assert max(Counter(uids).values()) == 1
    for path in BOARDS:
        numbers = [panel["id"] for panel in json.loads(path.read_text())["panels"]]
        assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_panels_do_not_overlap(path: Path) -> None:
    cells = Counter(
        (x, y)
        for panel in json.loads(path.read_text())["panels"]
        for grid in [panel["gridPos"]]
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    )
    assert max(cells.values()) == 1
    assert all(x < 24 for x, _ in cells)


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_plots_over_time_use_the_interval_of_grafana(path: Path) -> None:
    for panel in panels(path):
        for target in panel["targets"]:
            ranges = re.findall(r"(?:rate|increase|changes)\([^][]*\[([^]]+)\]", target["expr"])
            allowed = {"$__rate_interval", "$__range"}
            if "last half hour" in panel["title"]:
                allowed.add("30m")
            assert set(ranges) <= allowed, panel["title"]


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda each: each.where)
def test_expression_is_promql(expression: expressions.Expression) -> None:
    promql_parser.parse(expression.promql)
    assert "$" not in expression.promql


def test_every_expression_can_be_named() -> None:
    assert len({each.where for each in EXPRESSIONS}) == len(EXPRESSIONS)


def test_home_page_is_the_quality_dashboard() -> None:
    compose = yaml.safe_load((FOLDER.parent / "docker-compose.yml").read_text())
    grafana = compose["services"]["grafana"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert FOLDER / "dashboards" / home.name in BOARDS
    [provider] = yaml.safe_load((FOLDER / "provisioning/dashboards/docreco.yml").read_text())[
        "providers"
    ]
    assert str(home.parent) == provider["options"]["path"]
    mounts = {mount.split(":")[1] for mount in grafana["volumes"]}
    assert {str(home.parent), "/etc/grafana/provisioning"} <= mounts


def test_alerts_name_existing_contact_points_and_panels() -> None:
    alerting = FOLDER / "provisioning/alerting"
    points = yaml.safe_load((alerting / "contact-points.yml").read_text())["contactPoints"]
    [policy] = yaml.safe_load((alerting / "policies.yml").read_text())["policies"]
    names = {point["name"] for point in points}
    assert {policy["receiver"], *(route["receiver"] for route in policy["routes"])} <= names
    titles = {
        str(panel["id"]): panel["title"] for panel in panels(FOLDER / "dashboards/quality.json")
    }
    [group] = yaml.safe_load((alerting / "rules.yml").read_text())["groups"]
    panel_ids = [rule["annotations"].get("__panelId__") for rule in group["rules"]]
    shown = [titles[number] for number in panel_ids if number is not None]
    assert shown == [alert.panel for alert in grafana_alerts()]


def test_one_rule_tells_that_prometheus_does_not_answer() -> None:
    """``Error`` does not wait for the time in ``for``: it would tell each restart of Prometheus."""
    states = {rule["uid"]: rule["execErrState"] for rule in grafana_rules()}
    blind = states.pop("grafana-cannot-query-prometheus")
    assert (blind, set(states.values())) == ("Alerting", {"KeepLast"})


@pytest.mark.parametrize("rule", grafana_rules(), ids=lambda rule: rule["uid"])
def test_annotation_shows_a_value_only_where_there_is_one(rule: dict[str, Any]) -> None:
    """Go's templates write ``%!f(<nil>)`` for a value that is missing."""
    for text in rule["annotations"].values():
        guarded = re.sub(r"{{ if \.Values\.(\w+) }}(?:(?!{{ end }}).)*?{{ end }}", _unguarded, text)
        assert ".Values" not in guarded


def _unguarded(found: re.Match[str]) -> str:
    return found[0].replace(f".Values.{found[1]}", "")


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_numbers_are_of_now(path: Path) -> None:
    """A range ends with its last value: it would be shown as long as the range goes back."""
    for panel in panels(path):
        for target in panel["targets"]:
            is_now = panel["type"] == "stat"
            assert (target["instant"], target["range"]) == (is_now, not is_now), panel["title"]
            assert is_now or "$__range" not in target["expr"], panel["title"]


def test_grafana_and_prometheus_have_the_same_threshold() -> None:
    [mean] = [alert for alert in grafana_alerts() if alert.name == "OcrMeanScoreCritical"]
    assert (mean.operator, mean.limit) == ("lt", critical_threshold())
    expression = rules("alert")["OcrMeanScoreCritical"]["expr"]
    assert "ocr:prediction_score:mean5m < ocr:prediction_score:critical_threshold" in expression
    guard = expression.partition(" and ")[2]
    assert mean.value == f"ocr:prediction_score:mean5m and {guard}"


def test_metrics_are_scraped_as_often_as_the_data_source_says() -> None:
    prometheus = FOLDER.parent / "prometheus/prometheus.yml"
    [source] = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    interval = yaml.safe_load(prometheus.read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval
