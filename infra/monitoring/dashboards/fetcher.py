"""Dashboard of the fetcher: outcomes of URLs, and throughput."""

from grafana_foundation_sdk.models.dashboard import Dashboard

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

UID = "docreco-fetcher"
DONE = 'fetcher_items_total{outcome=~"stored|unchanged|failed"}'
FAILED = 'fetcher_items_total{outcome="failed"}'
QUEUES = 'queue=~"fetch[.](jobs|retry)[.].+"'


def build() -> Dashboard:
    """Return the dashboard."""
    return dashboard(
        "Fetcher",
        uid=UID,
        description="What came of the URLs of the batches.",
        since="now-1h",
        blocks=[_now(), _outcomes(), _speed()],
    )


def _now() -> Block:
    waiting = number(
        "URLs waiting",
        "In the fetcher's queues, all batches together. Steady and not zero: all of them are of a "
        "host that is asked slowly, or the fetcher is down.",
        "short",
        Query(f"sum(rabbitmq_queue_messages{{{QUEUES}}})", "waiting"),
        width=6,
    )
    rate = number(
        "URLs per minute",
        "With an outcome, whatever it is. Zero while URLs wait: see docreco doctor.",
        "cpm",
        Query(f"sum(rate({DONE}[$__rate_interval])) * 60", "done"),
        width=6,
    )
    failed = number(
        "Failed, last half hour",
        "Lists of some age lose 6 to 14 %. Above 30 % there is an alert: see the codes below.",
        "percentunit",
        Query(
            f"(sum(increase({FAILED}[30m])) or vector(0)) / (sum(increase({DONE}[30m])) > 0)",
            "failed",
        ),
        width=6,
        steps=((None, GREEN), (0.15, ORANGE), (0.3, RED)),
    )
    parked = number(
        "Parked",
        "Items given up after all retries because of a fault of ours, not of the URL. Each message "
        "has the reason in its headers.",
        "short",
        Query('sum(rabbitmq_queue_messages{queue="fetch.parked"})', "parked"),
        width=6,
        steps=NONE_IS_WELL,
    )
    return Block("Now", [waiting, rate, failed, parked])


def _outcomes() -> Block:
    outcomes = series(
        "Items by outcome",
        "stored is new, unchanged was there already, failed has a reason, cancelled was stopped by "
        "a person. Much unchanged: the list was submitted before.",
        "cpm",
        per_minute("fetcher_items_total", by="outcome"),
        stacked=True,
    )
    codes = series(
        "Failures by code",
        "One code on all hosts at once is our own network. not_found is an old list; rate_limited "
        "and timeout are hosts that want fewer requests. GET /batches/ID/failed.csv can be "
        "submitted again.",
        "cpm",
        Query(f"sum by (code) (rate({FAILED}[$__rate_interval])) * 60 > 0", "{{code}}"),
        stacked=True,
    )
    return Block("Outcomes", [outcomes, codes])


def _speed() -> Block:
    size = series(
        "Bytes downloaded",
        "Bodies only. Flat at the line's limit: more workers would not help.",
        "Bps",
        Query("sum(rate(fetcher_download_bytes_total[$__rate_interval]))", "downloaded"),
        width=8,
    )
    duration = series(
        "Time of a download",
        "From request to the end of the body. A rise on all: our line or the hosts are slow.",
        "s",
        *quantiles("fetcher_download_duration_seconds", 0.5, 0.95),
        width=8,
    )
    queues = series(
        "Fetch queues",
        "Items that wait now, and those that wait for a later try. A retry queue that stays "
        "filled: a host is down or refuses; its items fail after the last try.",
        "short",
        *depths('queue=~"fetch[.]retry[.].+"'),
        width=8,
    )
    return Block("Speed", [size, duration, queues])
