"""Passes by turns, and the metrics of what they found, without servers."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.common.adapters.object_store import ObjectStore
from services.common.adapters.repository import InvalidDocumentError
from services.reconciler.compare import BucketPart, State
from services.reconciler.main import Passes, publish
from services.reconciler.passes import compare_buckets
from services.reconciler.settings import ReconcilerSettings
from services.reconciler.walk import PassReport


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_foreign_document_does_not_hold_up_other_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[int] = []

    async def compare(*_: object, part: BucketPart, **__: object) -> PassReport:
        compared.append(part.number)
        if len(compared) < 3:
            raise ValueError("key: Input should be a valid string")
        return PassReport()

    monkeypatch.setattr("services.reconciler.main.compare_buckets", compare)
    servers: dict[str, Any] = dict.fromkeys(("store", "database", "amqp"))
    passes = Passes(ReconcilerSettings(parts=2), **servers)
    failed = value("reconciler_passes_total", outcome="failed")

    assert [await passes.next(), await passes.next()] == [True, True]

    assert sorted(compared) == [0, 1]
    assert value("reconciler_passes_total", outcome="failed") == failed + 2
    last = "reconciler_last_success_timestamp_seconds"
    before = value(last)
    await passes.next()
    assert value(last) == before, "the other part has no finished pass"
    await passes.next()
    assert value(last) > before


async def test_foreign_document_does_not_hold_up_the_other_bucket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[str] = []

    async def make(*_: object, store: ObjectStore, **__: object) -> PassReport:
        compared.append(store.bucket)
        raise InvalidDocumentError("pages/a.png: key: Input should be a valid string")

    monkeypatch.setattr("services.reconciler.passes.make_pass", make)
    client: Any = None
    servers: dict[str, Any] = {
        "store": ObjectStore(client, "raw", write_timeout_seconds=1.0),
        "database": SimpleNamespace(images=None, pages=None),
        "amqp": None,
    }

    with pytest.raises(InvalidDocumentError):
        await compare_buckets(ReconcilerSettings(), pages_bucket="pages", **servers)

    assert compared == ["pages", "raw"]


def test_passes_in_a_row_with_missing_documents_are_counted() -> None:
    lost, whole = PassReport(found=Counter({State.MISSING: 1})), PassReport()

    def after(reports: dict[int, PassReport], last: int) -> float:
        publish(reports, last=last)
        return value("reconciler_missing_passes")

    assert after({0: whole}, 0) == 0
    assert [after({0: lost}, 0), after({0: lost, 1: lost}, 1)] == [1, 2]
    assert after({0: lost, 1: lost, 2: whole}, 2) == 0
    assert value("reconciler_objects", state="missing") == 2


def test_events_that_were_not_published_are_not_counted() -> None:
    queued = value("reconciler_queued_total", state="gone")
    report = PassReport(found=Counter({State.GONE: 3}), queued_by_state=Counter({State.GONE: 1}))

    publish({0: report}, last=0)

    assert value("reconciler_queued_total", state="gone") == queued + 1
