"""Every event of the bucket is of one target, by MinIO's way of matching, repeated here."""

import hashlib

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from services.common.domain.image_formats import FORMATS
from services.common.domain.keys import FETCHED, fetched_key
from services.provisioner.notification_rules import (
    DOT,
    HEX,
    LETTERS,
    MOST_TARGETS,
    NOT_LITERAL,
    names_of,
    prefixes_of,
)

DIVIDED = prefixes_of(4)


def matches(pattern: bytes, key: bytes) -> bool:
    """Match as MinIO does (wildcard.MatchSimple), by bytes."""
    for place, byte in enumerate(pattern):
        if byte == ord("*"):
            return True
        if place == len(key):
            return byte == ord("?")
        if byte not in {ord("?"), key[place]}:
            return False
    return len(key) == len(pattern)


def targets_of(key: str, shares: list[list[str]]) -> set[int]:
    return {
        number
        for number, prefixes in enumerate(shares)
        if any(matches(f"{prefix}*".encode(), key.encode()) for prefix in prefixes)
    }


@pytest.mark.parametrize("targets", [1, 2, 3, MOST_TARGETS])
def test_fetched_images_are_shared_by_their_hash(targets: int) -> None:
    shares = prefixes_of(targets)
    for digit in HEX:
        digest = digit + hashlib.sha256(digit.encode()).hexdigest()[1:]
        for known in FORMATS:
            key = fetched_key(digest, known.extension)
            assert key[DOT] == "."
            assert targets_of(key, shares) == {int(digit, 16) % targets}


ascii_keys = st.text(sorted(set(LETTERS) - set(NOT_LITERAL)), min_size=1, max_size=120)
short_keys = st.text(min_size=1, max_size=18)


@settings(max_examples=30)
@given(st.one_of(ascii_keys, short_keys))
@example("scan.png")
@example("fetched")
@example("été 2026/fête.jpg")
@example("扫描件.png")
@example("民国档案/一九三五年/" + "卷" * 40 + ".jpg")
@example(".hidden")
@example("f" * 200)
def test_other_keys_are_of_the_first_target(key: str) -> None:
    # In the fetcher's own folder an event may come twice; what has its form is its own
    assume(not key.startswith(FETCHED) and (key[0], key[DOT : DOT + 1]) != ("f", "."))
    assert targets_of(key, DIVIDED) == {0}


def test_targets_are_named_by_number() -> None:
    found = names_of("arn:minio:sqs::RAW:amqp", 3)
    assert found == [f"arn:minio:sqs::{name}:amqp" for name in ("RAW", "RAW1", "RAW2")]
