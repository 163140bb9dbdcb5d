"""Files of lists and archives are bounded together."""

import pytest

from services.fetcher.spool import NoSpaceError, Spool


def test_all_files_together_are_bounded_and_what_is_discarded_makes_room() -> None:
    spool = Spool(10)
    with spool.file() as first, spool.file() as second:
        spool.write(first, b"12345")
        spool.write(second, b"1234")
        with pytest.raises(NoSpaceError):
            spool.write(second, b"12")
        spool.discard(first)
        spool.write(second, b"123456")
    with spool.file() as third:
        spool.write(third, b"1234567890")


def test_bytes_that_others_write_count_until_they_are_given_back() -> None:
    spool, owner = Spool(10), object()
    spool.take(owner, 8)
    with pytest.raises(NoSpaceError):
        spool.take(object(), 3)
    spool.give_back(owner)
    spool.take(object(), 10)
