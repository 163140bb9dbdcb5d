import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.download.urls import host_of
from services.fetcher.batches.pages import (
    PAGE_CHARACTERS,
    PAGE_ROWS,
    cut,
    mixed_by_host,
    to_page,
    unpack,
)
from services.fetcher.sources.lists.rows import ListItem


def test_hosts_take_turns() -> None:
    urls = ["http://a/1", "http://a/2", "http://a/3", "https://B:8/1", "http://c?x", "http://b:8/2"]

    mixed = mixed_by_host(ListItem(line, url) for line, url in enumerate(urls, start=1))

    assert [item.line for item in mixed] == [1, 4, 5, 2, 6, 3]
    assert [host_of(url) for url in urls[-3:]] == ["b:8", "c", "b:8"]


def test_page_ends_by_its_rows_or_its_characters() -> None:
    short = [ListItem(line, "http://x.test/") for line in range(PAGE_ROWS + 1)]
    long = [ListItem(line, "http://x.test/", "x" * 10_000) for line in range(200)]

    assert [len(page) for page in cut(short)] == [PAGE_ROWS, 1]
    sizes = [sum(len(item.annotation or "") for item in page) for page in cut(long)]
    assert max(sizes) <= PAGE_CHARACTERS + 10_000
    assert list(cut([])) == []


@given(st.lists(st.tuples(st.text(), st.none() | st.text()), min_size=1))
def test_page_holds_its_items_as_they_were(rows: list[tuple[str, str | None]]) -> None:
    items = [ListItem(line, url, text) for line, (url, text) in enumerate(rows, start=1)]
    items = [item for item in items if not any(0xD800 <= ord(c) < 0xE000 for c in item.url)]
    if not items:
        pytest.skip("nothing that a list could hold")

    page = to_page(0, items)

    assert unpack(page.packed) == items
    assert (page.first_line, page.last_line, page.items) == (
        items[0].line,
        items[-1].line,
        len(items),
    )
