"""Share the events of the bucket of images among several targets of MinIO, each event to one.

One target sends one event at a time. The keys of fetched images begin with a digit of their hash,
by which they are divided. MinIO's rules know no "all others", so the first target has one rule for
each way in which a key can differ from a fetched one: by its length, or by the byte at some place.
In a rule, ``?`` is any byte, or the end of the key, so a row of them matches all shorter keys.

See docs/decisions/0048-notification-targets.md.
"""

from collections.abc import Iterator

from services.common.domain.keys import FETCHED, fetched_key

MOST_TARGETS = 8
HEX = "0123456789abcdef"
LETTERS = "".join(map(chr, range(0x20, 0x7F)))
"""Printable ASCII."""
NOT_LITERAL = "*?\\"
"""Bytes that a rule can't name."""
DOT = fetched_key("0" * 64, "png").index(".")
"""Place of the dot in the key of a fetched image, whose other places are a hash."""
SLASH = fetched_key("0" * 64, "png").rindex("/")
MARKS = "./"
"""Bytes that a long key has somewhere in its first places, where a fetched one has a hash."""


def names_of(arn: str, targets: int) -> list[str]:
    """Return the names of the targets: the given one, and those with a number behind its own."""
    start, name, kind = arn.rsplit(":", 2)
    return [f"{start}:{name}{number or ''}:{kind}" for number in range(targets)]


def prefixes_of(targets: int) -> list[list[str]]:
    """Return the prefixes of the keys of each target, in MinIO's notation."""
    if targets == 1:
        return [[""]]
    shares = [[f"{FETCHED}{digit}" for digit in HEX[number::targets]] for number in range(targets)]
    shares[0] += _others()
    return shares


def _others() -> Iterator[str]:
    yield from _differing(0, FETCHED[0])
    for place in range(len(FETCHED), DOT):
        yield from _differing(place, "/" if place == SLASH else "", among=MARKS)
    yield from _differing(DOT, ".")


def _differing(place: int, usual: str, *, among: str = LETTERS) -> Iterator[str]:
    """Yield a prefix for each byte that differs at a place; they match all shorter keys, too."""
    for letter in among:
        if letter != usual and letter not in NOT_LITERAL:
            # MinIO refuses a rule with "." as a part of a path
            yield "?" * place + (".?" if (place, letter) == (0, ".") else letter)
