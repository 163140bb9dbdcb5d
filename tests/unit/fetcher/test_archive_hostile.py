"""Archives with false records: untrusted counts do not decide the cost of reading."""

import resource
import struct
import tracemalloc
import zipfile
import zlib
from io import BytesIO

import pytest
from typing_extensions import override

from services.fetcher.sources.archives import zip_directory
from services.fetcher.sources.archives.formats import OpenArchive
from services.fetcher.sources.archives.members import ArchiveLimits, ArchiveRefusedError
from services.fetcher.sources.archives.rows import archive_rows
from services.fetcher.sources.errors import Rejection
from services.fetcher.sources.lists.rows import ListItem, Row
from tests.support.hostile_archives import (
    END_OF_TAR,
    End,
    Member,
    many_entries,
    pax,
    pax_record,
    tar_header,
    tar_member,
    zip_file,
)

LIMITS = ArchiveLimits(members=50, decoded_bytes=10_000_000, ratio=100)
URL = "http://x.test/a.zip"
DIGITS_AT_ONCE = 60_000


def rows_of(content: bytes, limits: ArchiveLimits = LIMITS) -> list[Row]:
    with BytesIO(content) as file:
        return list(archive_rows(OpenArchive(file, limits), URL, limits))


def names_of(content: bytes) -> list[str]:
    rows = rows_of(content)
    assert all(isinstance(row, ListItem) for row in rows), rows
    return [row.url.partition("#")[2] for row in rows if isinstance(row, ListItem)]


def codes_of(content: bytes) -> list[str]:
    return [row.code for row in rows_of(content) if isinstance(row, Rejection)]


def read(content: bytes, name: str, max_bytes: int = 1000) -> bytes:
    with BytesIO(content) as file:
        return OpenArchive(file, LIMITS).read(name, max_bytes=max_bytes)


def test_honest_zip_is_read() -> None:
    for end in (
        End(),
        End(comment=b"made by hand"),
        End(zip64=End()),
        End(0xFFFF, 0xFFFFFFFF, zip64=End(), comment=b"made by hand"),
    ):
        content = zip_file([Member(), Member(b"b.png", b"more")], end)
        assert names_of(content) == ["a.png", "b.png"]
        assert read(content, "b.png") == b"more"


def test_understated_directory_size_costs_no_memory() -> None:
    content = many_entries(30_000)
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveRefusedError):
            rows_of(content)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 1_000_000


@pytest.mark.parametrize(
    "end",
    [
        End(zip64=End(entries=1)),
        End(zip64=End(directory_bytes=51)),
        End(entries=1),
        End(entries=3),
        End(directory_bytes=51),
        End(directory_bytes=10**6),
        End(0xFFFF, 0xFFFFFFFF),
        End(0xFFFF, 0xFFFFFFFF, zip64=End(), locator_offset=-1),
        End(0xFFFF, 0xFFFFFFFF, zip64=End(directory_bytes=2**63)),
        End(comment=b"x", comment_bytes=0),
        End(comment_bytes=7),
        End(comment=zip_file([Member(b"other.png")])),
    ],
    ids=[
        "zip64 entries",
        "zip64 size",
        "more entries",
        "fewer entries",
        "half an entry",
        "size beyond the file",
        "no zip64 record",
        "zip64 record elsewhere",
        "zip64 size beyond any file",
        "bytes behind the end",
        "comment cut short",
        "a zip as the comment",
    ],
)
def test_zip_whose_end_records_disagree_is_refused(end: End) -> None:
    with pytest.raises(ArchiveRefusedError):
        rows_of(zip_file([Member(), Member(b"b.png")], end))


def test_zip_with_too_many_entries_is_refused() -> None:
    members = [Member(f"{number}.png".encode()) for number in range(51)]

    with pytest.raises(ArchiveRefusedError, match="more than 50 members"):
        rows_of(zip_file(members))


def test_directory_of_long_names_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_directory, "_NAMES_BYTES", 1000)

    with pytest.raises(ArchiveRefusedError, match="directory is too large"):
        rows_of(zip_file([Member(b"n" * 5000)]))


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def test_members_that_overlap_are_refused() -> None:
    """David Fifield, "A better zip bomb" (2019): one kernel of data, quoted by all members."""
    inner = Member(b"b.png", b"content of b").local()
    outer = Member(b"a.png", inner)
    within = Member(b"b.png", b"content of b", at=outer.local().index(inner))

    for members in ([outer, within], [Member(), Member(at=0)]):
        with pytest.raises(ArchiveRefusedError, match="overlap"):
            rows_of(zip_file(members))


def test_member_within_the_directory_is_not_read() -> None:
    content = zip_file([Member(), Member(b"b.png", at=50)])

    assert codes_of(content) == ["inconsistent_member"]


@pytest.mark.parametrize(
    "member",
    [
        Member(local_name=b"b.png"),
        Member(local_name=b"a.pn"),
        Member(size=8),
        Member(content=bytes(5000), size=1, method=8),
        Member(at=10**9),
    ],
    ids=["name", "length of name", "size", "packed size", "place"],
)
def test_member_whose_headers_disagree_is_not_taken(member: Member) -> None:
    content = zip_file([member, Member(b"good.png")])

    assert codes_of(content) == ["inconsistent_member"]
    with pytest.raises(ArchiveRefusedError):
        read(content, "a.png")
    assert read(content, "good.png") == b"content"


def test_local_header_of_another_method_is_not_believed() -> None:
    content = bytearray(zip_file([Member(content=deflated(b"text"), size=4, method=8)]))
    struct.pack_into("<H", content, 8, 0)

    assert codes_of(bytes(content)) == ["inconsistent_member"]


@pytest.mark.parametrize("method", [0, 8], ids=["stored", "deflated"])
def test_content_that_was_changed_is_refused(method: int) -> None:
    packed = b"content" if method == 0 else deflated(b"content")
    content = bytearray(zip_file([Member(content=packed, size=7, method=method)]))
    struct.pack_into("<L", content, 14, 1)
    struct.pack_into("<L", content, content.index(b"PK\x01\x02") + 16, 1)

    with pytest.raises(ArchiveRefusedError, match="checksum"):
        read(bytes(content), "a.png")


@pytest.mark.parametrize(
    "packed",
    [deflated(b"longer than it says"), deflated(b"cont"), deflated(b"content")[:-1]],
    ids=["more", "less", "cut"],
)
def test_content_of_another_size_is_refused(packed: bytes) -> None:
    with pytest.raises(ArchiveRefusedError):
        read(zip_file([Member(content=packed, size=7, method=8)]), "a.png")


def test_first_of_two_members_with_the_same_path_is_read() -> None:
    in_zip = zip_file([Member(content=b"first"), Member(content=b"second")])
    in_tar = tar_member("a.png", b"first") + tar_member("a.png", b"second") + END_OF_TAR

    for content in (in_zip, in_tar):
        assert codes_of(content) == ["duplicate_member"]
        assert read(content, "a.png") == b"first"


def test_zip_that_python_writes_in_each_way_is_read() -> None:
    class Unseekable(BytesIO):
        @override
        def seekable(self) -> bool:  # data descriptors are written behind the contents
            return False

        @override
        def seek(self, *_: int) -> int:
            raise OSError

        @override
        def tell(self) -> int:
            raise OSError

    for file in (BytesIO(), Unseekable()):
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("é.png", b"content" * 100)
            with archive.open("b.png", "w", force_zip64=True) as member:
                member.write(b"more")
        content = file.getvalue()

        assert names_of(content) == ["%C3%A9.png", "b.png"]
        assert read(content, "é.png") == b"content" * 100
        assert read(content, "b.png") == b"more"


def test_header_of_digits_takes_no_quadratic_time() -> None:
    """CVE-2024-6232; tarfile of the Pythons before its mend takes some 4 minutes for this."""
    header = pax(b"1" * DIGITS_AT_ONCE)
    content = (header + tar_member("a.png", b"content")) * 100 + END_OF_TAR
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime

    with pytest.raises(ArchiveRefusedError):
        rows_of(content, ArchiveLimits(200, 10**9, 100))
    records = pax_record("comment", "1" * DIGITS_AT_ONCE)
    rows = rows_of((pax(records) + tar_member("a.png", b"a")) * 100, ArchiveLimits(200, 10**9, 100))

    assert isinstance(rows[0], ListItem)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 30


@pytest.mark.parametrize(
    "content",
    [
        pax(pax_record("comment", "x" * 2**16)) + tar_member("a.png", b""),
        tar_member("x", b"n" * (2**16 + 1), b"L") + tar_member("a.png", b""),
        tar_member("x", b"n" * (2**16 + 1), b"K") + tar_member("a.png", b""),
        pax(pax_record("comment", "x" * 2**14)) * 5 + tar_member("a.png", b""),
        (tar_member("x", b"n" * 100, b"L")) * 100 + tar_member("a.png", b""),
        pax(b"") * 200 + tar_member("a.png", b""),
    ],
    ids=["PAX", "long name", "long link", "chain of PAX", "chain of names", "chain of nothing"],
)
def test_headers_of_a_member_have_a_limit_together(content: bytes) -> None:
    with pytest.raises(ArchiveRefusedError, match="headers"):
        rows_of(tar_member("first.png", b"") + content + END_OF_TAR)


@pytest.mark.parametrize(
    "records",
    [
        b"5 a=b\n",
        b"7 a=b\n",
        b"6 a=b",
        b"6 a b\n",
        b"99999999999999999999 a=b\n",
        b"-6 a=b\n",
        b"0 a=b\n",
        b"a=b\n",
        b"11 size=-1\n",
        pax_record("size", "9" * 30),
        pax_record("size", "1e3"),
    ],
)
def test_pax_records_that_are_not_as_they_should_be_are_refused(records: bytes) -> None:
    with pytest.raises(ArchiveRefusedError):
        rows_of(pax(records) + tar_member("a.png", b"") + END_OF_TAR)


def test_header_for_all_members_that_moves_them_is_refused() -> None:
    for key in ("size", "path"):
        content = pax(pax_record(key, "1"), b"g") + tar_member("a.png", b"") + END_OF_TAR
        with pytest.raises(ArchiveRefusedError):
            rows_of(content)


def test_long_names_of_both_kinds_are_read() -> None:
    name = "n" * 150 + "/é.png"
    gnu = tar_member("x", name.encode() + b"\0", b"L") + tar_member("short", b"gnu") + END_OF_TAR
    posix = pax(pax_record("path", name)) + tar_member("short", b"pax") + END_OF_TAR

    assert [read(gnu, name), read(posix, name)] == [b"gnu", b"pax"]


@pytest.mark.parametrize(
    "content",
    [
        tar_header("a.png", size=-1),
        tar_header("a.png", size=2**62) + bytes(BLOCK := 512),
        tar_header("a.png", size=1000) + bytes(BLOCK),
        tar_member("x", b"", b"L"),
        pax(pax_record("path", "a.png")),
        tar_member("a.png", b"1") + b"noise" * 200,
        tar_member("a.png", b"1") + tar_header("b.png")[:300],
    ],
    ids=["negative", "huge", "cut", "name of nothing", "PAX of nothing", "noise", "half a header"],
)
def test_tar_that_is_not_whole_is_refused(content: bytes) -> None:
    with pytest.raises(ArchiveRefusedError):
        rows_of(tar_member("first.png", b"") + content)


def test_end_of_a_tar_is_the_end_whatever_follows() -> None:
    content = tar_member("a.png", b"1") + bytes(5_000_000) + tar_member("b.png", b"2")

    assert names_of(content) == ["a.png"]


def test_hard_links_and_sparse_files_are_no_files() -> None:
    sparse = bytearray(tar_header("holes.png", b"S", 512))
    gnu = pax(pax_record("GNU.sparse.major", "1") + pax_record("GNU.sparse.minor", "0"))
    gnu += tar_member("map.png", b"0\n")
    hard = tar_header("hard.png", b"1", 0, "a.png")
    content = tar_member("a.png", b"1") + hard + bytes(sparse) + bytes(512) + gnu + END_OF_TAR

    assert codes_of(content) == ["not_a_file"] * 3


def test_chain_of_maps_of_a_sparse_file_has_a_limit() -> None:
    header = bytearray(tar_header("holes.png", b"S"))
    header[482] = 1
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
    extended = bytes(504) + b"\1" + bytes(7)

    with pytest.raises(ArchiveRefusedError, match="headers"):
        rows_of(bytes(header) + extended * 1000 + END_OF_TAR)
