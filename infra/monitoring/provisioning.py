"""Grafana's provisioning: data source, dashboards and alerts.

The alerts' expressions come from Prometheus' rule files, so they always agree. Grafana replaces
``$NAME`` in these files by environment variables, so templates use ``.Values`` instead of
``$values``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from infra.monitoring.dashboards import quality
from infra.monitoring.render import RUNBOOKS, SOURCE
from infra.monitoring.rules import critical_threshold, rules

DATASOURCE_UID = "prometheus"
FOLDER_TITLE = "DocReco"
CONTACT_POINT = "alert-webhook"
EVALUATED_EVERY = "30s"
LOOK_BACK_SECONDS = 600
BLIND = "GrafanaCannotQueryPrometheus"
"""The rule, described in ``docs/monitoring.md``, that Prometheus can't have."""
SHOWN_VALUE = '{{ if .Values.A }}: {{ printf "%.2f" .Values.A.Value }}{{ end }}'
"""End of a summary; there is no value while Prometheus does not answer."""


@dataclass(frozen=True)
class GrafanaAlert:
    """An alert of Prometheus that Grafana raises too.

    Args:
        name: Its name in ``prometheus/rules``.
        title: What people see.
        value: The expression whose value is compared; Grafana shows it.
        operator: How it is compared with the limit.
        limit: The limit.
        panel: Title of the panel, on the quality dashboard, that shows the value.
    """

    name: str
    title: str
    value: str
    operator: Literal["lt", "gt"]
    limit: float
    panel: str


def provisioning_files() -> Mapping[Path, str]:
    """Return the content of each provisioning file, by its path under ``grafana/``."""
    contents = {
        "datasources/prometheus.yml": _datasource(),
        "dashboards/docreco.yml": _dashboards(),
        "alerting/contact-points.yml": _contact_points(),
        "alerting/policies.yml": _policies(),
        "alerting/rules.yml": _rules(),
    }
    note = "# Made by python -m infra.monitoring.generate; edit infra/monitoring/provisioning.py\n"
    return {
        Path("provisioning", name): note + yaml.safe_dump(content, sort_keys=False, width=100)
        for name, content in contents.items()
    }


def grafana_alerts() -> list[GrafanaAlert]:
    """Return the alerts about quality, split into value and limit."""
    mean, share = _expression("OcrMeanScoreCritical"), _expression("OcrLowScoreRatioHigh")
    errors = _expression("OcrAnnotatedErrorRateHigh")
    return [
        GrafanaAlert(
            "OcrMeanScoreCritical",
            "Mean prediction score under the critical threshold",
            value=_without(mean, " < ocr:prediction_score:critical_threshold"),
            operator="lt",
            limit=critical_threshold(),
            panel="Mean score over time",
        ),
        GrafanaAlert(
            "OcrLowScoreRatioHigh",
            "Many low scores",
            value=_without(share, " > 0.3"),
            operator="gt",
            limit=0.3,
            panel="Share of low scores over time",
        ),
        GrafanaAlert(
            "OcrAnnotatedErrorRateHigh",
            "High error rate of annotated images",
            value=_without(errors, " > ocr:annotated_cer:critical_threshold"),
            operator="gt",
            limit=critical_threshold("annotated_cer"),
            panel="Character error rate of all annotated images",
        ),
        GrafanaAlert(
            "OcrNoPredictionsWhileImagesArrive",
            "Images arrive and none is predicted",
            value=_expression("OcrNoPredictionsWhileImagesArrive"),
            operator="gt",
            limit=0,
            panel="Predictions per minute over time",
        ),
    ]


def _datasource() -> Mapping[str, Any]:
    return {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Prometheus",
                "uid": DATASOURCE_UID,
                "type": "prometheus",
                "access": "proxy",
                "url": "http://prometheus:9090",
                "isDefault": True,
                "editable": False,
                # $__rate_interval is made from the scrape interval
                "jsonData": {
                    "httpMethod": "POST",
                    "timeInterval": _load("prometheus.yml")["global"]["scrape_interval"],
                },
            }
        ],
    }


def _dashboards() -> Mapping[str, Any]:
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": "docreco",
                "folder": FOLDER_TITLE,
                "type": "file",
                "disableDeletion": True,
                "allowUiUpdates": False,
                "updateIntervalSeconds": 30,
                "options": {"path": "/etc/grafana/dashboards"},
            }
        ],
    }


def _contact_points() -> Mapping[str, Any]:
    receiver = {
        "uid": "docreco-webhook",
        "type": "webhook",
        "settings": {"url": "http://alert-webhook:9095/grafana", "httpMethod": "POST"},
        "disableResolveMessage": False,
    }
    return {
        "apiVersion": 1,
        "contactPoints": [{"orgId": 1, "name": CONTACT_POINT, "receivers": [receiver]}],
    }


def _policies() -> Mapping[str, Any]:
    policy = {
        "orgId": 1,
        "receiver": CONTACT_POINT,
        "group_by": ["grafana_folder", "alertname"],
        "group_wait": "10s",
        "group_interval": "1m",
        "repeat_interval": "12h",
        "routes": [
            {
                "receiver": CONTACT_POINT,
                "object_matchers": [["severity", "=", "critical"]],
                "repeat_interval": "1h",
            }
        ],
    }
    return {"apiVersion": 1, "policies": [policy]}


def _rules() -> Mapping[str, Any]:
    group = {
        "orgId": 1,
        "name": "quality",
        "folder": FOLDER_TITLE,
        "interval": EVALUATED_EVERY,
        "rules": [*map(_grafana_rule, grafana_alerts()), _blind_rule()],
    }
    return {"apiVersion": 1, "groups": [group]}


def _grafana_rule(alert: GrafanaAlert) -> Mapping[str, Any]:
    rule = rules("alert")[alert.name]
    annotations = rule["annotations"]
    return {
        "uid": _kebab(alert.name),
        "title": alert.title,
        "condition": "B",
        "for": rule["for"],
        "data": [_value_of(alert.value), _comparison(alert.operator, alert.limit)],
        # No value means no predictions, which has its own alert
        "noDataState": "OK",
        # An outage of Prometheus has its own rule
        "execErrState": "KeepLast",
        "isPaused": False,
        "labels": rule["labels"],
        "annotations": {
            "summary": f"{alert.title}{SHOWN_VALUE}",
            "description": annotations["description"],
            "runbook_url": annotations["runbook_url"],
            "__dashboardUid__": quality.UID,
            "__panelId__": str(_panel_id(alert.panel)),
        },
    }


def _blind_rule() -> Mapping[str, Any]:
    """Return the rule that fires while Prometheus does not answer Grafana, and at no value.

    ``Alerting`` waits for the time in ``for``; ``Error`` would fire at each restart.
    """
    return {
        "uid": _kebab(BLIND),
        "title": "Grafana cannot query Prometheus",
        "condition": "B",
        "for": "2m",
        "data": [_value_of("vector(1)"), _comparison("lt", 1)],
        "noDataState": "Alerting",
        "execErrState": "Alerting",
        "isPaused": False,
        "labels": {"severity": "critical"},
        "annotations": {
            "summary": "Grafana cannot query Prometheus",
            "description": "Dashboards are empty, and alerts do not fire.",
            "runbook_url": f"{RUNBOOKS}/{BLIND.lower()}",
        },
    }


def _value_of(expression: str) -> Mapping[str, Any]:
    model = {"refId": "A", "expr": expression, "instant": True, "range": False}
    return {
        "refId": "A",
        "relativeTimeRange": {"from": LOOK_BACK_SECONDS, "to": 0},
        "datasourceUid": DATASOURCE_UID,
        "model": model,
    }


def _comparison(operator: Literal["lt", "gt"], limit: float) -> Mapping[str, Any]:
    evaluator = {"type": operator, "params": [limit]}
    model = {
        "refId": "B",
        "type": "threshold",
        "expression": "A",
        "datasource": {"type": "__expr__", "uid": "__expr__"},
        "conditions": [{"evaluator": evaluator}],
    }
    return {
        "refId": "B",
        "relativeTimeRange": {"from": 0, "to": 0},
        "datasourceUid": "__expr__",
        "model": model,
    }


def _panel_id(title: str) -> int:
    found = [panel.id_val for panel in quality.build().panels or [] if panel.title == title]
    if len(found) != 1 or found[0] is None:
        raise ValueError(f"{len(found)} panels are titled {title!r}")
    return found[0]


def _expression(alert: str) -> str:
    return str(rules("alert")[alert]["expr"])


def _without(expression: str, comparison: str) -> str:
    if comparison not in expression:
        raise ValueError(f"no {comparison!r} in {expression!r}")
    return expression.replace(comparison, "")


def _load(name: str) -> Any:
    return yaml.safe_load((SOURCE / name).read_text())


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
