"""Prometheus, Alertmanager and the example receiver as child processes."""

import sys
from collections.abc import Mapping
from pathlib import Path

from infra.local import locate, servers
from infra.local.ports import HOST
from infra.local.probes import answers
from infra.local.servers import Home, url_of
from infra.local.settings import Ports, child_environment
from infra.local.stack import located
from infra.local.supervisor import Program
from infra.monitoring.render import write_alertmanager, write_prometheus

ROOT = Path(__file__).parents[2]
WEBHOOK = "alert-webhook"


def local_targets(ports: Ports) -> Mapping[str, str]:
    """Return where each job of ``prometheus.yml`` is on this machine; there are no containers."""
    of_job = {
        "ocr-api": ports.ocr_api_port,
        "fetcher": ports.fetcher_port,
        "consumer": ports.consumer_port,
        "reconciler": ports.reconciler_port,
        "review": ports.review_port,
        "segmenter": ports.segmenter_port,
        "minio": ports.minio_port,
        "rabbitmq": ports.rabbitmq_metrics_port,
        "prometheus": ports.prometheus_port,
        "alertmanager": ports.alertmanager_port,
    }
    return {job: f"{HOST}:{port}" for job, port in of_job.items()}


def monitoring_programs(home: Home) -> list[Program]:
    """Write the servers' files and return the programs, to be started in this order.

    Raises:
        ServerMissingError: Prometheus or Alertmanager is not installed.
    """
    prometheus = located("Prometheus", locate.locate_prometheus)
    alertmanager = located("Alertmanager", locate.locate_alertmanager)
    ports = home.ports
    routes = write_alertmanager(
        home.folder("alertmanager-config"),
        webhook_url=url_of(ports.alert_webhook_port),
    )
    config = write_prometheus(home.folder("prometheus-config"), local_targets(ports))
    return [
        webhook(home),
        servers.alertmanager(alertmanager, home, config=routes),
        servers.prometheus(prometheus, home, config=config),
    ]


def webhook(home: Home) -> Program:
    """Return the example receiver; its log has a line for each alert."""
    port = home.ports.alert_webhook_port
    return Program(
        name=WEBHOOK,
        argv=[sys.executable, "-m", "services.alert_receiver.main", "--port", str(port)],
        env=child_environment({"PYTHONPATH": str(ROOT)}),
        cwd=home.folder(WEBHOOK),
        log_path=home.log_path(WEBHOOK),
        is_ready=answers(url_of(port, "/livez")),
    )
