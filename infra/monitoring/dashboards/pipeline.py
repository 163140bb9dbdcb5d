"""Dashboard of the pipeline: each stage from left to right, and the servers below."""

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from infra.monitoring.dashboards.board import Block, dashboard
from infra.monitoring.dashboards.panels import (
    GREEN,
    NONE_IS_WELL,
    ORANGE,
    RED,
    Query,
    depths,
    number,
    per_minute,
    quantiles,
    series,
)
from infra.monitoring.dashboards.servers import ocr_api, servers, storage

UID = "docreco-pipeline"
WAYS = "putobject|postpolicybucket|completemultipartupload|copyobject"
STORED = f'minio_bucket_requests_total{{api=~"{WAYS}"}}'


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
            ocr_api(),
            servers(),
            storage(),
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
        per_minute("minio_notify_target_total_events", "events"),
        per_minute("ocr_predictions_total", "predicted"),
        per_minute("consumer_image_age_seconds_count", "indexed"),
    )
    ages = series(
        "Age of an image at its document",
        "From stored to indexed. Over five minutes for ten minutes there is an alert: more arrives "
        "than is read, or deliveries are retried.",
        "s",
        *quantiles("consumer_image_age_seconds", 0.5, 0.95, 0.99),
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
        per_minute("consumer_deliveries_total", by="outcome, code", present=True),
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
    return Block("What failed", [deliveries, troubled, *_given_up()])


def _given_up() -> list[Builder[Panel]]:
    """Return what waits for a person, or is lost."""
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
        steps=NONE_IS_WELL,
    )
    unrouted = number(
        "Events that found no queue",
        "Any but zero is an alert: a binding of raw.events or pages.events is missing. Run the "
        "provisioner.",
        "short",
        Query('sum(rabbitmq_queue_messages{queue=~"(raw|pages)[.]unrouted"})', "unrouted"),
        width=8,
        steps=NONE_IS_WELL,
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
        steps=NONE_IS_WELL,
    )
    return [parked, unrouted, lost]


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
        steps=((None, GREEN), (1, ORANGE)),
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
        steps=NONE_IS_WELL,
    )
    return Block("Reconciler", [age, differing, held, found])


def _pages() -> Block:
    """Pages, and the lines that are cut out of them."""
    outcomes = series(
        "Pages by outcome",
        "segmented is well; rendered is a PDF or TIFF, whose pages follow. rejected: docreco pages "
        "list --status rejected says why. postponed: pages wait while many images do.",
        "cpm",
        per_minute("segmenter_pages_total", by="outcome, code", present=True),
        stacked=True,
    )
    lines = series(
        "Lines by state",
        "new ones go to the OCR API. gone: a newer detector did not find them again. superseded: "
        "neither, but they are annotated, so they stay.",
        "cpm",
        per_minute("segmenter_lines_total", by="state"),
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
