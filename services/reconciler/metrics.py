"""Metrics of the reconciler."""

from prometheus_client import Counter, Gauge

OBJECTS = Gauge(
    "reconciler_objects",
    "Objects and documents of the last finished pass, by what was found of them.",
    ["state"],
)
QUEUED = Counter(
    "reconciler_queued_total", "Notifications made for what had none, by what was found.", ["state"]
)
PASSES = Counter("reconciler_passes_total", "Passes, by how they ended.", ["outcome"])
LAST_SUCCESS = Gauge(
    "reconciler_last_success_timestamp_seconds", "When the last pass finished, in Unix time."
)
PASS_SECONDS = Gauge("reconciler_pass_duration_seconds", "How long the last finished pass took.")
INTERVAL_SECONDS = Gauge(
    "reconciler_interval_seconds", "From the end of a pass to the next, as it is set."
)
