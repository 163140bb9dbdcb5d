"""Every metric, label and value that rules, dashboards and Grafana's alerts name is there."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.local import report
from infra.monitoring.rules import rules
from services.reconciler.compare import State
from tests.support import expressions
from tests.support.promql import Matcher, Selector, alternatives, selectors
from tests.support.started import at_start

ROOT = Path(__file__).parents[2]
SERVERS: dict[str, dict[str, list[str]]] = yaml.safe_load(
    Path(__file__).with_name("server_metrics.yml").read_text()
)
CONFIG = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())
JOBS = {job["job_name"] for job in CONFIG["scrape_configs"]}
QUEUES = {
    queue["name"]
    for queue in json.loads((ROOT / "rabbitmq/definitions.json").read_text())["queues"]
}
EVERYWHERE = {"job": JOBS, "queue": QUEUES}
EXPRESSIONS = [
    *expressions.dashboard_expressions(rate_interval="20s", period="1h"),
    *expressions.alert_expressions(),
    *expressions.recording_expressions(),
    *(expressions.Expression("run_local.sh", promql) for promql, _ in report.FIGURES.values()),
    *(expressions.Expression("run_local.sh", each) for each in (report.SCRAPED, report.EVALUATED)),
]
SELECTORS = sorted({found for each in EXPRESSIONS for found in selectors(each.promql)})
OPEN = {
    "consumer_character_errors_total": "the consumer learns of a model by its first prediction",
    "consumer_annotated_characters_total": "the consumer learns of a model by its first prediction",
    "review_request_duration_seconds_bucket": "quantiles of many requests do not miss a first one",
}
"""Counters that may begin with a value."""
SOMETIMES = {"prometheus", "cadvisor"}
"""Jobs without a target are no fault: Prometheus itself could not tell, cAdvisor is optional."""
NO_CODES = {"email_configs", "model_version", "run_local", "runbook_url", "slack_configs"}
"""Words that look like one."""


def named(selector: Selector) -> str:
    """Return the name of a test case."""
    return f"{'growth of ' if selector.is_counted else ''}{selector.promql}"


def values_of(metric: str, label: str) -> set[str]:
    """Return the values that a label of a metric has."""
    if label in EVERYWHERE:
        return EVERYWHERE[label]
    if (metric, label) == ("reconciler_objects", "state"):
        return set(State)  # a gauge that is known after the first pass only
    if metric in SERVERS:
        return set(SERVERS[metric].get(label, ()))
    return {
        each.labels[label]
        for each in at_start().series
        if each.metric == metric and label in each.labels
    }


@pytest.mark.parametrize("selector", SELECTORS, ids=named)
def test_metric_of_expression_exists(selector: Selector) -> None:
    assert selector.metric in {*SERVERS, *rules("record"), *at_start().names}


@pytest.mark.parametrize("selector", SELECTORS, ids=named)
def test_label_values_of_expression_exist(selector: Selector) -> None:
    for each in selector.matchers:
        known = values_of(selector.metric, each.label)
        for part in alternatives(each.value) if each.is_regex else [each.value]:
            alone = Matcher(each.label, part, each.is_regex, is_negative=False)
            assert any(map(alone.takes, known)), f"{each.label} is never {part!r}"


@pytest.mark.parametrize(
    "selector",
    [each for each in SELECTORS if each.is_counted],
    ids=named,
)
def test_counted_series_exist_at_zero(selector: Selector) -> None:
    """Of a series that begins with a value, ``increase()`` and ``rate()`` miss that value."""
    if selector.metric in {*SERVERS, *OPEN}:
        return
    assert any(
        each.metric == selector.metric and selector.takes(dict(each.labels))
        for each in at_start().series
    )


def test_every_job_that_is_always_there_is_missed() -> None:
    absent = {
        each.value
        for selector in selectors(rules("alert")["TargetMissing"]["expr"])
        for each in selector.matchers
    }
    assert absent == JOBS - SOMETIMES


def test_promtool_tests_use_series_that_exist() -> None:
    unknown = set()
    for path in (ROOT / "prometheus/tests").glob("*.yml"):
        for case in yaml.safe_load(path.read_text())["tests"]:
            for given in case["input_series"]:
                unknown |= _unknown(given)
    assert unknown == set()


def _unknown(given: dict[str, Any]) -> set[str]:
    [selector] = selectors(given["series"])
    if selector.metric in SERVERS or not selector.metric.startswith(("consumer_", "fetcher_")):
        return set()
    if any(each.label == "le" for each in selector.matchers):
        return set()
    own = [each for each in at_start().series if each.metric == selector.metric]
    labels = {each.label for each in selector.matchers} - {"job", "instance"}
    wanted = {each.label: each.value for each in selector.matchers if each.label in labels}
    return set() if any({**each.labels} == wanted for each in own) else {given["series"]}


def test_alternatives_of_a_regular_expression() -> None:
    assert alternatives("a") == ["a"]
    assert alternatives("a|b") == ["a", "b"]
    assert alternatives("a[.](b|c[.].+)") == ["a[.]b", "a[.]c[.].+"]
    assert alternatives("(a|b)[.](c|d)") == ["a[.]c", "a[.]d", "b[.]c", "b[.]d"]
    assert all(re.compile(each) for each in alternatives("(a|b)[.](c|d)"))


def test_codes_that_texts_name_exist() -> None:
    boards = [json.loads(path.read_text()) for path in (ROOT / "grafana/dashboards").glob("*.json")]
    texts = [panel.get("description", "") for board in boards for panel in board["panels"]]
    page = (ROOT / "docs/monitoring.md").read_text()
    texts += re.findall(r"`([a-z0-9_]+)`", page)
    said = {word for text in texts for word in re.findall(r"\b[a-z]+(?:_[a-z0-9]+)+\b", text)}
    known = {value for each in at_start().series for value in each.labels.values()}
    names = {name.removesuffix("_total") for name in at_start().names} | at_start().names
    assert said - known - names - NO_CODES - set(State) == set()
