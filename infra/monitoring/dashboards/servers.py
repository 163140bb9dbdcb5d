"""Blocks of the pipeline's dashboard about the OCR API and the servers."""

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Panel

from infra.monitoring.dashboards.board import Block
from infra.monitoring.dashboards.panels import (
    GREEN,
    ORANGE,
    RED,
    Query,
    number,
    per_minute,
    quantiles,
    series,
    states,
)

UP = {"0": "down", "1": "up"}


def ocr_api() -> Block:
    """Return what the OCR API refuses, and how long it takes."""
    refusals = series(
        "Refusals of the OCR API, by reason",
        "undecodable_image and the like are the images' fault. overloaded: add replicas or cores. "
        "not_ready: no model is loaded, see its log. internal_error: a bug, see its log.",
        "cpm",
        per_minute("ocr_rejections_total", by="code", present=True),
        width=8,
    )
    duration = series(
        "Time to read an image",
        "Without waiting. A rise on all models: the machine's cores are busy with something else, "
        "or images are larger than usual.",
        "s",
        *quantiles("ocr_prediction_duration_seconds", 0.5, 0.95),
        width=8,
    )
    errors = series(
        "Requests that got no answer",
        "The objective is less than 1 %. 14 % over an hour spends a month's share in two days, and "
        "pages: OcrApiErrorBudgetBurnsFast in docs/monitoring.md.",
        "percentunit",
        Query("ocr:api_error_ratio:5m", "5 minutes"),
        Query("ocr:api_error_ratio:1h", "1 hour"),
        Query("ocr:api_error_ratio:6h", "6 hours"),
        width=8,
    )
    return Block("OCR API", [refusals, duration, errors])


def servers() -> Block:
    """Return who answers, and with how much memory."""
    answering = states(
        "Who answers",
        "Red: no metrics were scraped. ./run_local.sh or docker compose logs SERVICE says why. "
        "The other stages wait for it and go on by themselves.",
        Query("min by (job) (up)", "{{job}}"),
        names=UP,
    )
    memory = series(
        "Memory of the services",
        "Resident memory. A line that only rises for hours is a leak: restart that service and "
        "report it with this plot.",
        "bytes",
        Query("sum by (job) (process_resident_memory_bytes)", "{{job}}"),
    )
    return Block("Servers", [answering, memory])


def storage() -> Block:
    """Return what MinIO and RabbitMQ have left."""
    space = number(
        "MinIO space left",
        "Under 10 % there is an alert: uploads fail when it is full. Add a disk, or export and "
        "delete.",
        "percentunit",
        Query(
            "sum(minio_cluster_capacity_usable_free_bytes)"
            " / sum(minio_cluster_capacity_usable_total_bytes)",
            "left",
        ),
        width=8,
        steps=((None, RED), (0.1, ORANGE), (0.2, GREEN)),
    )
    broker_memory = number(
        "RabbitMQ memory",
        "Part of what it may use; at 100 % it accepts no messages. Look for a deep queue above.",
        "percentunit",
        Query(
            "max(rabbitmq_process_resident_memory_bytes / rabbitmq_resident_memory_limit_bytes)",
            "used",
        ),
        width=8,
        steps=((None, GREEN), (0.6, ORANGE), (0.8, RED)),
    )
    broker_disk = number(
        "RabbitMQ disk left",
        "At its limit it accepts no messages, and MinIO holds back its events. Free the disk.",
        "bytes",
        Query("min(rabbitmq_disk_space_available_bytes)", "left"),
        width=8,
        decimals=None,
    )
    return Block("MinIO and RabbitMQ", [space, broker_memory, broker_disk, *_traffic()])


def _traffic() -> list[Builder[Panel]]:
    objects = series(
        "Requests to the bucket",
        "By kind, each minute. Many unexpected deletes: check who has which key.",
        "cpm",
        per_minute("minio_bucket_requests_total", by="api"),
    )
    connections = series(
        "RabbitMQ connections and consumers",
        "Consumers fall to zero: no work is done. Connections that only rise: a client that does "
        "not close them.",
        "short",
        Query("sum(rabbitmq_connections)", "connections"),
        Query("sum(rabbitmq_consumers)", "consumers"),
    )
    return [objects, connections]
