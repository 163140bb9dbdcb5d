"""Cut a sequence into pieces."""

from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import TypeVar

T = TypeVar("T")


def in_pieces(
    items: Iterable[T],
    most_items: int,
    *,
    length: Callable[[T], int] = lambda _: 0,
    most_length: float = inf,
) -> Iterator[list[T]]:
    """Cut items into lists, in order; the same items give the same lists.

    Args:
        items: Of any number, taken as needed.
        most_items: Items at which a list ends.
        length: Of an item, such as its characters.
        most_length: Length at which a list ends.
    """
    piece: list[T] = []
    total = 0
    for item in items:
        piece.append(item)
        total += length(item)
        if len(piece) >= most_items or total >= most_length:
            yield piece
            piece, total = [], 0
    if piece:
        yield piece
