"""Files of lists and archives are bounded together."""

import pytest

from services.fetcher.sources.spool import NoSpaceError, Spool


class Owner:
    """Of bytes."""


def test_limit_is_of_all_files_and_discarding_makes_room() -> None:
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


def test_taken_bytes_count_until_they_are_given_back() -> None:
    spool, owner, other = Spool(10), Owner(), Owner()
    spool.take(owner, 8)
    with pytest.raises(NoSpaceError):
        spool.take(other, 3)
    spool.give_back(owner)
    spool.take(other, 10)


def test_file_without_holder_makes_room() -> None:
    spool = Spool(10)
    forgotten = spool.new_file()
    spool.write(forgotten, b"1234567890")
    with pytest.warns(ResourceWarning):
        del forgotten

    with spool.file() as file:
        spool.write(file, b"1234567890")
        assert file.tell() == 10


def test_write_to_a_discarded_file_takes_no_room() -> None:
    spool = Spool(10)
    discarded = spool.new_file()
    spool.discard(discarded)
    with pytest.raises(ValueError, match="closed"):
        spool.write(discarded, b"1234567890")
    del discarded

    with spool.file() as file:
        spool.write(file, b"1234567890")
