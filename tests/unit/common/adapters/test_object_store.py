"""Buckets that share a client, without servers."""

from typing import Any

from services.common.adapters.object_store import ObjectStore, sibling


def test_sibling_has_the_same_time_limit() -> None:
    client: Any = None
    store = ObjectStore(client, "raw", write_timeout_seconds=7.0)

    pages = sibling(store, "pages")

    assert (pages.bucket, pages.write_timeout_seconds) == ("pages", 7.0)
