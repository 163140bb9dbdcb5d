"""Prometheus' and Alertmanager's files, read by their own checkers."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.local.locate import locate_alertmanager, locate_prometheus
from infra.local.monitoring import local_targets
from infra.local.settings import Ports
from infra.monitoring.provisioning import BLIND
from infra.monitoring.render import RUNBOOKS, write_alertmanager, write_prometheus
from tests.support.compose import parsed
from tests.support.hastened import hasten, hasten_files

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
FILES = {path.stem for path in (PROMETHEUS / "targets").glob("*.yml")}
SCALED = {
    "ocr-api": 8080,
    "fetcher": 8081,
    "review": 8082,
    "consumer": 8083,
    "reconciler": 8084,
    "segmenter": 8085,
}
"""Jobs that compose may run several of, each with its port."""


def rules(kind: str) -> list[dict[str, Any]]:
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


ALERTS = {rule["alert"]: rule for rule in rules("alert")}


def check(tool: str, *arguments: str) -> str:
    """Run a checker that stands beside its server."""
    server = locate_alertmanager() if tool == "amtool" else locate_prometheus()
    assert server is not None, f"{tool} is needed to check these files"
    done = subprocess.run(  # noqa: S603
        [server.with_name(tool), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_committed_files_are_accepted() -> None:
    output = check("promtool", "check", "config", str(PROMETHEUS / "prometheus.yml"))
    assert output.count("rules found") == len(RULES)
    check("amtool", "check-config", str(PROMETHEUS / "alertmanager.yml"))


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_rules_do_as_their_tests_say(path: Path) -> None:
    check("promtool", "test", "rules", str(path))


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_is_seen_firing_and_not_firing(alert: str) -> None:
    firing = quiet = False
    for case in (case for path in RULE_TESTS for case in yaml.safe_load(path.read_text())["tests"]):
        for expected in case.get("alert_rule_test", ()):
            if expected["alertname"] == alert:
                firing |= bool(expected["exp_alerts"])
                quiet |= not expected["exp_alerts"]
        for expected in case.get("promql_expr_test", ()):
            shown = re.search(r'alertname(=~|=)"([^"]+)"', expected["expr"])
            if expected["expr"] == "ALERTS" or (shown and re.fullmatch(shown[2], alert)):
                quiet |= not expected["exp_samples"]
            firing |= any(f'alertname="{alert}"' in s["labels"] for s in expected["exp_samples"])
    assert firing
    assert quiet or alert == "TargetMissing"  # which is quiet for seven of the eight jobs there


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_says_how_grave_it_is_and_what_to_do(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"{RUNBOOKS}/{alert.lower()}"


def test_no_runbook_is_of_an_alert_that_is_gone() -> None:
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs/monitoring.md").read_text(), re.MULTILINE)
    assert set(headings) == {*ALERTS, BLIND}


def test_names_of_rules_are_unique() -> None:
    names = [rule.get("alert") or rule["record"] for rule in (*rules("alert"), *rules("record"))]
    assert len(names) == len(set(names))


def test_every_job_reads_an_address_file_that_compose_has() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    files = {
        Path(path).stem
        for section in (*config["scrape_configs"], *config["alerting"]["alertmanagers"])
        for discovery in section.get("file_sd_configs", ())
        for path in discovery["files"]
    }
    assert files == FILES


def test_every_replica_in_compose_is_found_by_its_name() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    services = parsed()["services"]
    shared = [
        name
        for name, each in services.items()
        if "ocr-apis" in ((each.get("networks") or {}).get("front") or {}).get("aliases", ())
    ]
    assert set(shared) == {"ocr-api", "ocr-api-trocr"}  # all predictions may be of the second
    found = {}
    for job in config["scrape_configs"]:
        for discovery in job.get("dns_sd_configs", ()):
            [name] = discovery["names"]
            assert name == ("ocr-apis" if job["job_name"] == "ocr-api" else job["job_name"])
            assert discovery["type"] == "A"
            found[job["job_name"]] = discovery["port"]
    assert found == SCALED
    seen = set(services["prometheus"]["networks"])
    for name, port in [*found.items(), ("ocr-api-trocr", SCALED["ocr-api"])]:
        assert seen & set(services[name]["networks"])
        assert f":{port}/" in services[name]["healthcheck"]["test"][-1]


def test_local_copy_differs_in_addresses_only(tmp_path: Path) -> None:
    targets = local_targets(Ports())
    config = write_prometheus(tmp_path, targets)
    check("promtool", "check", "config", str(config))
    assert set(targets) == (FILES | SCALED.keys()) - {"cadvisor"}
    for path in RULES:
        copy = tmp_path / path.relative_to(PROMETHEUS)
        assert yaml.safe_load(copy.read_text()) == yaml.safe_load(path.read_text())
    expected = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    for job in expected["scrape_configs"]:
        if job.pop("dns_sd_configs", None):
            job["file_sd_configs"] = [{"files": [f"targets/{job['job_name']}.yml"]}]
    assert yaml.safe_load(config.read_text()) == expected
    addresses = yaml.safe_load((tmp_path / "targets/ocr-api.yml").read_text())
    assert addresses == [{"targets": ["127.0.0.1:8080"]}]


def test_address_of_an_earlier_time_is_gone(tmp_path: Path) -> None:
    write_prometheus(tmp_path, {"ocr-api": "127.0.0.1:1", "fetcher": "127.0.0.1:2"})
    write_prometheus(tmp_path, {"ocr-api": "127.0.0.1:3"})
    assert [path.name for path in (tmp_path / "targets").iterdir()] == ["ocr-api.yml"]


def test_alerts_of_this_machine_name_its_review_service(tmp_path: Path) -> None:
    write_prometheus(tmp_path, {"review": "127.0.0.1:7"})
    groups = yaml.safe_load((tmp_path / "rules/alerts.yml").read_text())["groups"]
    addresses = {rule["annotations"]["runbook_url"] for each in groups for rule in each["rules"]}
    assert all(each.startswith("http://127.0.0.1:7/alerts/") for each in addresses)


def test_faster_copy_is_accepted_and_divides_durations(tmp_path: Path) -> None:
    config = write_prometheus(tmp_path, {})
    hasten_files(tmp_path, 20)
    check("promtool", "check", "config", str(config))
    groups = yaml.safe_load((tmp_path / "rules/alerts.yml").read_text())["groups"]
    assert groups[0]["rules"][0]["for"] == "15000ms"
    assert yaml.safe_load(config.read_text())["global"]["scrape_interval"] == "500ms"


def test_ranges_and_offsets_are_divided_and_nothing_else() -> None:
    hastened = hasten('sum(rate(a{b="c"}[5m])) / sum(rate(d[1h30m] offset 10m)) > 5', 10)
    assert hastened == 'sum(rate(a{b="c"}[30000ms])) / sum(rate(d[540000ms] offset 60000ms)) > 5'


def test_receivers_of_the_local_copy_are_the_local_one(tmp_path: Path) -> None:
    path = write_alertmanager(tmp_path, webhook_url="http://127.0.0.1:9095/")
    check("amtool", "check-config", str(path))
    config = yaml.safe_load(path.read_text())
    urls = [hook["url"] for each in config["receivers"] for hook in each["webhook_configs"]]
    assert urls == ["http://127.0.0.1:9095/now", "http://127.0.0.1:9095/today"]


@pytest.mark.parametrize(("severity", "receiver"), [("critical", "now"), ("warning", "today")])
def test_alerts_are_routed_by_severity(severity: str, receiver: str) -> None:
    config = str(PROMETHEUS / "alertmanager.yml")
    routed = check(
        "amtool", "config", "routes", "test", f"--config.file={config}", f"severity={severity}"
    )
    assert routed.splitlines()[0] == receiver
