from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from services.common.download.responses import (
    LONGEST_RETRY_AFTER_SECONDS,
    Validators,
    clean_date,
    clean_etag,
    opts_out,
    retry_after_seconds,
)

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
DATE = "Thu, 01 Jan 2026 11:00:00 GMT"
FIRST, OTHER = URL("http://x.test/a"), URL("http://y.test/a")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("3601", LONGEST_RETRY_AFTER_SECONDS),
        ("9" * 5000, LONGEST_RETRY_AFTER_SECONDS),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thursday, 01-Jan-26 12:00:30 GMT", 30.0),
        ("Thu Jan  1 12:00:30 2026", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_RETRY_AFTER_SECONDS),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("١٢", None),
        ("Thu, 99 Foo 2026 12:00:30 GMT", None),
        ("x" * 5000, None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_an_hour_at_most(
    value: str, seconds: float | None
) -> None:
    assert retry_after_seconds({"Retry-After": value}, NOW) == seconds


def test_missing_retry_after_is_none() -> None:
    assert retry_after_seconds({}) is None


@given(st.text(max_size=60))
def test_retry_after_of_any_text_is_within_its_limits(value: str) -> None:
    seconds = retry_after_seconds({"Retry-After": value})

    assert seconds is None or 0 <= seconds <= LONGEST_RETRY_AFTER_SECONDS


@pytest.mark.parametrize("etag", ['"a"', 'W/"a"', '""', '"a-b/c=="', '"' + "x" * 256 + '"'])
def test_entity_tag_strong_or_weak_is_kept_as_it_is(etag: str) -> None:
    assert clean_etag(etag) == etag


@pytest.mark.parametrize(
    "etag",
    [
        *(None, "", "a", '"a', 'w/"a"', '"a" ', '"a"b"', '"a b"', '"a\r\nX: y"', '"é"'),
        *('"\udc80"', '"' + "x" * 257 + '"', "*", '"a"\n'),
    ],
)  # fmt: skip
def test_what_is_no_entity_tag_is_never_sent_back(etag: str | None) -> None:
    assert clean_etag(etag) is None
    assert Validators(etag).conditions(FIRST, is_first=True) == {}


@pytest.mark.parametrize("date", [None, "", "yesterday", f"{DATE}\r\nX: y", f" {DATE}", "0"])
def test_what_is_no_date_is_never_sent_back(date: str | None) -> None:
    assert clean_date(date) is None
    assert Validators(last_modified=date).conditions(FIRST, is_first=True) == {}


def test_conditions_carry_both_validators() -> None:
    assert Validators('W/"a"', DATE).conditions(FIRST, is_first=True) == {
        "If-None-Match": 'W/"a"',
        "If-Modified-Since": DATE,
    }


@pytest.mark.parametrize(
    ("came_from", "url", "is_first", "is_conditional"),
    [
        (None, FIRST, True, True),
        (None, FIRST, False, False),
        (str(FIRST), FIRST, True, True),
        (str(OTHER), OTHER, False, True),
        (str(OTHER), FIRST, True, False),
        (str(FIRST), OTHER, False, False),
    ],
)
def test_validators_are_sent_to_where_they_came_from_alone(
    *, came_from: str | None, url: URL, is_first: bool, is_conditional: bool
) -> None:
    sent = Validators('"a"', url=came_from).conditions(url, is_first=is_first)

    assert bool(sent) is is_conditional


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], False),
        (["noindex, nofollow"], False),
        (["noai"], True),
        (["NoImageAI"], True),
        (["noindex , noai"], True),
        (["noindex", "noimageai"], True),
        (["*: noai"], True),
        (["docreco-fetcher: noai"], True),
        (["DocReco-Fetcher:noindex, noai"], True),
        (["otherbot: noai"], False),
        (["otherbot: noindex, noai"], False),
        (["otherbot: noindex, docreco-fetcher: noai"], True),
        (["otherbot: noai", "noai"], True),
        (["docreco-fetcher: noindex, otherbot: noai"], False),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST, noai"], True),
        (["max-image-preview:none, noai"], True),
        (["noaix, xnoai"], False),
        (["noai" * 3000], False),
        ([",,,:,:,"], False),
        (["unavailable_after: Wed, 03 Dec 2031 13:09:53 GMT, noai"], True),
        (["unavailable_after: 25 Jun 2031 15:00:00 PST, noimageai"], True),
        (["unavailable_after: 2031-12-03T13:09:53Z, noai"], True),
        (["otherbot: unavailable_after: Wed, 03 Dec 2031 13:09:53 GMT, noai"], False),
        (["max-snippet: 5, noai"], True),
    ],
)
def test_robots_tag_opts_out_for_all_or_for_us(lines: list[str], *, expected: bool) -> None:
    assert opts_out(lines, "docreco-fetcher") is expected


@given(st.lists(st.text(), max_size=5))
def test_any_robots_tag_can_be_read(lines: list[str]) -> None:
    assert isinstance(opts_out(lines, "docreco-fetcher"), bool)
