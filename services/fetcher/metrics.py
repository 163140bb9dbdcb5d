"""Metrics of the fetcher; dashboards and alerts read these names."""

from typing import Literal, get_args

from prometheus_client import REGISTRY

from services.common.download.errors import DownloadCode
from services.common.download.transport import DownloadMetrics
from services.common.runtime.metrics import counter_at_zero

DoneCode = Literal["stored", "unchanged", "cancelled"]
FailureCode = Literal[DownloadCode, "internal_error", "gave_up"]
ItemCode = Literal[DoneCode, FailureCode]
"""Outcomes of items, and reasons of failures."""

FETCHED_ITEMS = counter_at_zero(
    "fetcher_items_total",
    "Batch items with an outcome.",
    ["outcome", "code"],
    [
        *((code, code) for code in get_args(DoneCode)),
        *(("failed", code) for code in get_args(FailureCode)),
    ],
)
DOWNLOADS = DownloadMetrics(REGISTRY, service="fetcher")
