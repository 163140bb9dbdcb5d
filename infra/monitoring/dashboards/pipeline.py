"""Dashboard of the pipeline: each stage from left to right, and the servers below."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from infra.monitoring.dashboards.board import Block, dashboard
from infra.monitoring.dashboards.panels import (
    GREEN,
    ORANGE,
    RED,
    Query,
    depths,
    number,
    series,
    states,
)

UID = "docreco-pipeline"
STORED = 'minio_bucket_requests_total{api=~"putobject|completemultipartupload|copyobject"}'
UP = {"0": "down", "1": "up"}


def build() -> Dashboard:
    """Return the dashboard."""
    return dashboard(
        "Pipeline",
        uid=UID,
        description="The stages an image passes, left to right, and the servers they need.",
        since="now-1h",
        blocks=[
            _stages(),
            _flow(),
            _failures(),
            _reconciler(),
            _pages(),
            _ocr_api(),
            _servers(),
            _storage(),
        ],
    )


def _stages() -> Block:
    """One number per stage, in pipeline order."""
    stages = [
        ("Fetched", 'fetcher_items_total{outcome="stored"}', "The fetcher wrote them to MinIO."),
        ("Stored", STORED, "MinIO stored them, from any client."),
        ("Events", "minio_notify_target_total_events", "MinIO sent or kept them for RabbitMQ."),
        ("Predicted", "ocr_predictions_total", "The OCR API read them."),
        ("Indexed", "consumer_image_age_seconds_count", "Their documents are in MongoDB."),
    ]
    rates = [
        number(
            f"{title} per minute",
            f"{does} The first stage from the left that stays at zero is the one to look at.",
            "cpm",
            Query(f"sum(rate({metric}[$__rate_interval])) * 60", title.lower()),
            decimals=0,
        )
        for title, metric, does in stages
    ]
    waiting = number(
        "Waiting",
        "Events in ocr.jobs. After a large upload it falls by itself; when it only grows, add "
        "consumers or OCR API replicas, or see why those there are stand still.",
        "short",
        Query('sum(rabbitmq_queue_messages{queue="ocr.jobs"})', "waiting"),
        steps=((None, GREEN), (1000, ORANGE), (10_000, RED)),
        decimals=0,
    )
    return Block("Stages, left to right, now", [*rates[:3], waiting, *rates[3:]])


def _flow() -> Block:
    flow = series(
        "Stages over time",
        "Images a minute at each stage. The lines should follow each other; one that falls behind "
        "is the stage that is slow or stands still.",
        "cpm",
        Query('sum(rate(fetcher_items_total{outcome="stored"}[$__rate_interval])) * 60', "fetched"),
        Query(f"sum(rate({STORED}[$__rate_interval])) * 60", "stored"),
        Query("sum(rate(minio_notify_target_total_events[$__rate_interval])) * 60", "events"),
        Query("sum(rate(ocr_predictions_total[$__rate_interval])) * 60", "predicted"),
        Query("sum(rate(consumer_image_age_seconds_count[$__rate_interval])) * 60", "indexed"),
    )
    ages = series(
        "Age of an image at its document",
        "From stored to indexed. Over five minutes for ten minutes there is an alert: more arrives "
        "than is read, or deliveries are retried.",
        "s",
        *(
            Query(
                f"histogram_quantile({share}, sum by (le)"
                " (rate(consumer_image_age_seconds_bucket[$__rate_interval])))",
                name,
            )
            for share, name in ((0.5, "median"), (0.95, "95 of 100"), (0.99, "99 of 100"))
        ),
    )
    queues = series(
        "Queue depths",
        "Messages in each queue, those in work included. ocr.jobs may be deep after an upload and "
        "should fall; a retry queue that stays filled means a fault that lasts.",
        "short",
        *depths('queue!~"fetch[.]jobs[.].+"'),
    )
    held = series(
        "Events held back by MinIO",
        "They wait for RabbitMQ in MinIO's folder and are sent when it answers. Growing: RabbitMQ "
        "is down or slow. One that stays for ever is left from a kill, and harmless.",
        "short",
        Query("sum by (target_id) (minio_notify_target_queue_length)", "{{target_id}}"),
    )
    return Block("Flow", [flow, ages, queues, held])


def _failures() -> Block:
    deliveries = series(
        "Deliveries by outcome",
        "acked is well. retried comes again after a delay; returned means that a server was "
        "missing (the code names it: index_unavailable is MongoDB); parked was given up.",
        "cpm",
        Query(
            "sum by (outcome, code) (rate(consumer_deliveries_total[$__rate_interval])) * 60 > 0",
            "{{outcome}} {{code}}",
        ),
        stacked=True,
    )
    troubled = series(
        "Retried and returned",
        "Deliveries that will come again. index_unavailable is MongoDB, object_store_unavailable "
        "is MinIO, ocr_unavailable the OCR API: fix that one, the rest resumes by itself.",
        "cpm",
        Query(
            "sum by (code) (rate("
            'consumer_deliveries_total{outcome=~"retried|returned"}[$__rate_interval])) * 60 > 0',
            "{{code}}",
        ),
    )
    parked = number(
        "Parked",
        "Given up, with the reason in each message's headers. Fix the cause, then send them to "
        "the work queue again: see MessagesParked in docs/monitoring.md.",
        "short",
        Query(
            'sum by (queue) (rabbitmq_queue_messages{queue=~"(ocr|pages|fetch)[.]parked"})',
            "{{queue}}",
        ),
        width=8,
        steps=((None, GREEN), (1, RED)),
        decimals=0,
    )
    unrouted = number(
        "Events that found no queue",
        "Any but zero is an alert: a binding of raw.events or pages.events is missing. Run the "
        "provisioner.",
        "short",
        Query('sum(rabbitmq_queue_messages{queue=~"(raw|pages)[.]unrouted"})', "unrouted"),
        width=8,
        steps=((None, GREEN), (1, RED)),
        decimals=0,
    )
    lost = number(
        "Events that MinIO lost, in this period",
        "Any but zero is an alert: MinIO could neither send nor keep an event. See "
        "NotificationsLost in docs/monitoring.md.",
        "short",
        Query(
            "sum(increase(minio_notify_target_failed_events[$__range]))"
            " + sum(increase(minio_notify_events_skipped_total[$__range]))",
            "lost",
        ),
        width=8,
        steps=((None, GREEN), (1, RED)),
        decimals=0,
    )
    return Block("What failed", [deliveries, troubled, parked, unrouted, lost])


def _reconciler() -> Block:
    """Results of the reconciler."""
    age = number(
        "Last pass ended",
        "How long ago. Three times the interval without one is an alert: see ReconcilerStale in "
        "docs/monitoring.md. No value: none has ended within a day.",
        "s",
        Query(
            "time() - (max(max_over_time(reconciler_last_success_timestamp_seconds[1d])) > 0)",
            "ago",
        ),
        width=4,
        decimals=0,
    )
    differing = number(
        "Differed in the last pass",
        "Images without a document, of other bytes, or gone. It queues them by itself; missing in "
        "every pass means that events get lost.",
        "short",
        Query(
            'sum by (state) (reconciler_objects{state=~"missing|changed|gone"})',
            "{{state}}",
        ),
        width=4,
        steps=((None, GREEN), (1, ORANGE)),
        decimals=0,
    )
    found = series(
        "Found by each pass",
        "in_order is nearly all of them. young will be looked at again; parked waits for a person.",
        "short",
        Query("sum by (state) (reconciler_objects)", "{{state}}"),
    )
    held = number(
        "Removals held",
        "Too many objects were gone in the last pass: see RemovalsHeld in docs/monitoring.md.",
        "short",
        Query("max(reconciler_removals_held)", "held"),
        width=4,
        steps=((None, GREEN), (1, RED)),
        decimals=0,
    )
    return Block("Reconciler", [age, differing, held, found])


def _pages() -> Block:
    """Pages, and the lines that are cut out of them."""
    outcomes = series(
        "Pages by outcome",
        "segmented is well; rendered is a PDF or TIFF, whose pages follow. rejected: docreco pages "
        "list --status rejected says why. postponed: pages wait while many images do.",
        "cpm",
        Query(
            "sum by (outcome, code) (rate(segmenter_pages_total[$__rate_interval])) * 60 > 0",
            "{{outcome}} {{code}}",
        ),
        stacked=True,
    )
    lines = series(
        "Lines by state",
        "new ones go to the OCR API. gone: a newer detector did not find them again. superseded: "
        "neither, but they are annotated, so they stay.",
        "cpm",
        Query("sum by (state) (rate(segmenter_lines_total[$__rate_interval])) * 60", "{{state}}"),
    )
    found = series(
        "Lines found on a page",
        "The median falls to a few: pages are turned, or too faint; look at them.",
        "short",
        Query(
            "histogram_quantile(0.5, sum by (le)"
            " (rate(segmenter_lines_per_page_bucket[$__rate_interval])))",
            "median",
        ),
    )
    took = series(
        "Time of a page, by step",
        "The 95th of 100. detect grows with the cores' load; cut with the number of lines.",
        "s",
        Query(
            "histogram_quantile(0.95, sum by (le, step)"
            " (rate(segmenter_page_duration_seconds_bucket[$__rate_interval])))",
            "{{step}}",
        ),
    )
    return Block("Pages", [outcomes, lines, found, took])


def _ocr_api() -> Block:
    refusals = series(
        "Refusals of the OCR API, by reason",
        "undecodable_image and the like are the images' fault. overloaded: add replicas or cores. "
        "not_ready: no model is loaded, see its log. internal_error: a bug, see its log.",
        "cpm",
        Query(
            "sum by (code) (rate(ocr_rejections_total[$__rate_interval])) * 60 > 0",
            "{{code}}",
        ),
        width=8,
    )
    duration = series(
        "Time to read an image",
        "Without waiting. A rise on all models: the machine's cores are busy with something else, "
        "or images are larger than usual.",
        "s",
        *(
            Query(
                f"histogram_quantile({share}, sum by (le)"
                " (rate(ocr_prediction_duration_seconds_bucket[$__rate_interval])))",
                name,
            )
            for share, name in ((0.5, "median"), (0.95, "95 of 100"))
        ),
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


def _servers() -> Block:
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


def _storage() -> Block:
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
        decimals=0,
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
        decimals=0,
    )
    broker_disk = number(
        "RabbitMQ disk left",
        "At its limit it accepts no messages, and MinIO holds back its events. Free the disk.",
        "bytes",
        Query("min(rabbitmq_disk_space_available_bytes)", "left"),
        width=8,
    )
    objects = series(
        "Requests to the bucket",
        "By kind, each minute. Many unexpected deletes: check who has which key.",
        "cpm",
        Query("sum by (api) (rate(minio_bucket_requests_total[$__rate_interval])) * 60", "{{api}}"),
    )
    connections = series(
        "RabbitMQ connections and consumers",
        "Consumers fall to zero: no work is done. Connections that only rise: a client that does "
        "not close them.",
        "short",
        Query("sum(rabbitmq_connections)", "connections"),
        Query("sum(rabbitmq_consumers)", "consumers"),
    )
    return Block("MinIO and RabbitMQ", [space, broker_memory, broker_disk, objects, connections])
