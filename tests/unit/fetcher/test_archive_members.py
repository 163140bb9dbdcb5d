import gzip
import io
import tarfile
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from itertools import groupby
from tempfile import TemporaryFile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from services.common.domain.details import is_text
from services.common.domain.tables.report import MAX_TABLES, Report
from services.fetcher.sources.addresses import member_url, split_member
from services.fetcher.sources.archives import ground_truth, members
from services.fetcher.sources.archives.contents import MemberReader
from services.fetcher.sources.archives.formats import OpenArchive
from services.fetcher.sources.archives.members import (
    FREE_BYTES,
    MAX_NAME_LENGTH,
    ArchiveLimits,
    ArchiveRefusedError,
    check_size,
    is_safe,
)
from services.fetcher.sources.archives.opening import list_archive
from services.fetcher.sources.archives.rows import archive_rows
from services.fetcher.sources.errors import Rejection, UnreadableFileError
from services.fetcher.sources.lists.rows import ListItem, Row, to_row
from services.fetcher.sources.spool import GzipError, Spool, gunzipped, unzipped
from tests.support.archives import tar_of, tgz_of, zip_of
from tests.support.waiting import DEADLINE_SECONDS

LIMITS = ArchiveLimits(members=50, decoded_bytes=1_000_000, ratio=100)
URL = "https://x.test/scans.zip?v=1"
ROOM = Spool(2**30)
IMAGE = bytes(range(256))


def tar_with(info: tarfile.TarInfo) -> bytes:
    content = BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(info)
    return content.getvalue()


def rows_of(content: bytes, limits: ArchiveLimits = LIMITS) -> list[Row]:
    with TemporaryFile() as file:
        file.write(content)
        with unzipped(file, ROOM, at_most(limits.decoded_bytes)) as whole:
            return list(archive_rows(OpenArchive(whole, limits), URL, limits))


def at_most(max_bytes: int) -> Callable[[bytes, int], None]:
    limits = ArchiveLimits(50, max_bytes, 100)
    return lambda _, size: check_size(size, max_bytes, limits)


def texts_of(content: bytes) -> dict[str, str | None]:
    rows = rows_of(content)
    assert all(isinstance(row, ListItem) for row in rows), rows
    return {split_member(row.url)[1]: row.annotation for row in rows if isinstance(row, ListItem)}


def codes_of(content: bytes) -> list[tuple[int, str]]:
    return [(row.line, row.code) for row in rows_of(content) if isinstance(row, Rejection)]


KINDS: list[Callable[[Mapping[str, bytes]], bytes]] = [
    zip_of,
    tar_of,
    tgz_of,
]


@pytest.mark.parametrize("make", KINDS, ids=["zip", "tar", "tar.gz"])
def test_images_of_an_archive_are_items_at_its_address(
    make: Callable[[Mapping[str, bytes]], bytes],
) -> None:
    content = make(
        {"a/é 1#%.png": IMAGE, "b.JPG": IMAGE, "__MACOSX/a/._b.jpg": b"", "README.txt": b""}
    )

    assert rows_of(content) == [
        ListItem(1, f"{URL}#a/%C3%A9%201%23%25.png"),
        ListItem(2, f"{URL}#b.JPG"),
    ]
    assert split_member(member_url(URL, "a/é 1#%.png")) == (URL, "a/é 1#%.png")


def test_member_is_read_no_further_than_its_limit() -> None:
    for make in (zip_of, tar_of):
        archive = OpenArchive(BytesIO(make({"a.png": IMAGE, "b.png": b"b"})), LIMITS)

        assert archive.read("a.png", max_bytes=256) == IMAGE
        assert len(archive.read("a.png", max_bytes=10)) == 11
        with pytest.raises(ArchiveRefusedError):
            archive.read("c.png", max_bytes=10)


@pytest.mark.parametrize(
    "truth",
    [
        {"labels.csv": 'File Name;Text\na.png;"Où ; l\'été"\nsub/b.png;b\n'.encode("cp1252")},
        {"labels.csv": b'a.png,"O\xc3\xb9 ; l\'\xc3\xa9t\xc3\xa9"\nsub/b.png,b\n'},
        {"gt.tsv": "image\ttranscription\na.png\tOù ; l'été\nsub/b.png\tb\n".encode()},
        {
            "metadata.jsonl": b'{"file_name": "a.png", "text": "O\\u00f9 ; l\'\\u00e9t\\u00e9"}\n'
            b'\n{"file_name": "sub/b.png", "text": "b"}\n["no"]\n'
        },
        {"a.gt.txt": "Où ; l'été\n".encode(), "sub/b.txt": b"b"},
        {
            "ascii/lines.txt": b"#--- lines.txt ---#\n"
            b"a ok 154 19 408 746 1663 91 O\xc3\xb9|;|l'\xc3\xa9t\xc3\xa9\n"
            b"b err 154 19 408 746 1663 91 b\n"
        },
    ],
    ids=["csv", "csv without names", "tsv", "jsonl", "beside", "iam"],
)
def test_annotations_are_found_wherever_people_put_them(truth: dict[str, bytes]) -> None:
    content = zip_of({"a.png": IMAGE, "sub/b.png": IMAGE, "c.png": IMAGE, **truth})

    assert texts_of(content) == {"a.png": "Où ; l'été", "sub/b.png": "b", "c.png": None}


@pytest.mark.parametrize("trash", [b"", b"trash" * 200])
def test_joined_tars_are_read_to_the_last_one(trash: bytes) -> None:
    content = tar_of({"a.png": IMAGE}) + tar_of({"b.png": IMAGE, "b.gt.txt": b"b"}) + trash
    assert texts_of(content) == {"a.png": None, "b.png": "b"}


@pytest.mark.parametrize("stems", [("p.1", "p.2"), ("p.l1", "p.l2"), ("p.001a", "p.002a")])
def test_several_images_have_no_text_in_common(stems: tuple[str, ...]) -> None:
    files = {f"{stem}.png": IMAGE for stem in stems} | {"p.gt.txt": b"all of the page"}
    assert texts_of(zip_of(files)) == {f"{stem}.png": None for stem in stems}


@pytest.mark.parametrize("stems", [("p.300",), ("p.l1",), ("p.bin", "p.nrm", "p.dew")])
def test_lone_image_or_forms_of_one_share_its_text(stems: tuple[str, ...]) -> None:
    files = {f"{stem}.png": IMAGE for stem in stems} | {"p.gt.txt": b"Haus"}
    assert texts_of(zip_of(files)) == {f"{stem}.png": "Haus" for stem in stems}


def test_text_of_an_image_is_not_of_a_numbered_one() -> None:
    files = {"p.png": IMAGE, "p.1.png": IMAGE, "p.nrm.png": IMAGE, "p.gt.txt": b"Haus"}
    texts = {"p.png": "Haus", "p.1.png": None, "p.nrm.png": "Haus"}
    assert texts_of(zip_of(files)) == texts


def test_table_in_a_folder_speaks_of_its_own_folder() -> None:
    content = zip_of({"x/a.png": IMAGE, "y/a.png": IMAGE, "x/t.csv": b"file,text\na.png,one\n"})

    assert texts_of(content) == {"x/a.png": "one", "y/a.png": None}


def test_members_that_are_not_taken_are_reported_one_by_one() -> None:
    content = zip_of(
        {
            "/etc/a.png": IMAGE,
            "../a.png": IMAGE,
            "a/../../b.png": IMAGE,
            "C:/a.png": IMAGE,
            "a\\..\\..\\b.png": IMAGE,
            "inner.zip": b"",
            "inner.tar.gz": b"",
            "program.exe": b"",
            "bomb.png": bytes(100_000),
            "good.png": IMAGE,
        }
    )

    assert codes_of(content) == [
        (1, "unsafe_path"),
        (2, "unsafe_path"),
        (3, "unsafe_path"),
        (4, "unsafe_path"),
        (5, "unsafe_path"),
        (6, "nested_archive"),
        (7, "nested_archive"),
        (8, "not_an_image"),
        (9, "suspicious_ratio"),
    ]
    assert [row for row in rows_of(content) if isinstance(row, ListItem)] == [
        ListItem(10, f"{URL}#good.png")
    ]


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
def test_links_and_devices_are_refused(kind: bytes) -> None:
    info = tarfile.TarInfo("a.png")
    info.type, info.linkname = kind, "/etc/passwd"

    assert codes_of(tar_with(info)) == [(1, "not_a_file")]


def test_symbolic_link_in_a_zip_is_refused() -> None:
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        info = zipfile.ZipInfo("a.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")

    assert codes_of(content.getvalue()) == [(1, "not_a_file")]


def test_encrypted_member_is_refused() -> None:
    content = bytearray(zip_of({"a.png": IMAGE, "b.png": IMAGE}))
    directory_at = content.index(b"PK\x01\x02")
    content[directory_at + 8] |= 1

    assert codes_of(bytes(content)) == [(1, "encrypted_member")]


def test_office_document_is_refused_whatever_comes_first() -> None:
    workbook = zip_of({"xl/media/image1.png": IMAGE, "[Content_Types].xml": b"<Types/>"})
    with pytest.raises(ArchiveRefusedError, match="save a table as CSV"):
        rows_of(workbook)
    others = zip_of({"a/[Content_Types].xml": b"x", "1.png": IMAGE})
    assert [row for row in rows_of(others) if isinstance(row, ListItem)]


def test_second_member_of_the_same_path_is_refused() -> None:
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.png", IMAGE)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.png", IMAGE)

    assert codes_of(content.getvalue()) == [(2, "duplicate_member")]


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_member_of_unbounded_compression_is_not_listed_or_read(compression: int) -> None:
    content = zip_of(
        {"a.png": IMAGE, "b.txt": bytes(5000), "t.csv": b"file,text\na.png,b\n"},
        compression=compression,
    )

    assert codes_of(content) == [(place, "unsupported_compression") for place in (1, 2, 3)]
    with pytest.raises(ArchiveRefusedError, match="no such readable member"):
        OpenArchive(BytesIO(content), LIMITS).read("b.txt", max_bytes=10)


def tar_with_headers(headers: Mapping[str, str], count: int, kind: bytes = b"x") -> bytes:
    """Return a tar of empty images, each with PAX records before it."""
    content = BytesIO()
    for number in range(count):
        info = tarfile.TarInfo(f"{number}.png")
        if kind == b"g":
            others = {f"{key}{number}": headers[key] for key in headers}
            content.write(tarfile.TarInfo.create_pax_global_header(others))
        else:
            info.pax_headers = dict(headers)
        content.write(info.tobuf(tarfile.PAX_FORMAT))
    content.write(bytes(1024))
    return content.getvalue()


def test_names_are_cut_just_behind_the_largest_length() -> None:
    name = "n" * 5000 + ".png"
    for content in (tar_of({name: IMAGE}), zip_of({name: IMAGE})):
        assert codes_of(content) == [(1, "unsafe_path")]
        (entry,) = OpenArchive(BytesIO(content), LIMITS).entries()
        assert len(entry.name) == MAX_NAME_LENGTH + 1


def test_headers_of_a_tar_count_as_bytes_that_it_holds() -> None:
    content = tar_with_headers({"comment": "x" * 40_000}, 30)

    with pytest.raises(ArchiveRefusedError, match="holds more than"):
        rows_of(content)


def test_paths_that_are_too_long_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_NAMES_LENGTH", 20)

    assert len(rows_of(tar_of({"1234567890.png": b"", "a.png": b""}))) == 2
    with pytest.raises(ArchiveRefusedError, match="paths"):
        rows_of(tar_of({"1234567890.png": b"", "ab.png": b"", "c.png": b""}))


@pytest.mark.parametrize("kind", [b"x", b"g"], ids=["of each member", "of all members"])
def test_headers_of_a_tar_are_forgotten_member_by_member(kind: bytes) -> None:
    content = tar_with_headers({"comment": "x" * 60_000}, 40, kind)
    archive = OpenArchive(BytesIO(content), LIMITS)
    tracemalloc.start()
    try:
        assert sum(1 for _ in archive.entries()) == 40
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < len(content) / 2


def test_lookup_of_a_member_respects_the_limit_of_members() -> None:
    archive = OpenArchive(BytesIO(tar_of({f"{each}.png": b"b" for each in range(51)})), LIMITS)

    with pytest.raises(ArchiveRefusedError, match="more than 50 members"):
        archive.read("1.png", max_bytes=10)


def test_all_that_is_known_of_the_images_has_a_limit_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = b"file,text\na.png,b\n"
    content = zip_of({"a.png": IMAGE, "b.png": IMAGE, "t.csv": table, "b.txt": b"12345"})
    monkeypatch.setattr(ground_truth, "MAX_TRUTH_BYTES", len(table) + 5)
    assert texts_of(content) == {"a.png": "b", "b.png": "12345"}

    monkeypatch.setattr(ground_truth, "MAX_TRUTH_BYTES", len(table) + 4)
    with pytest.raises(ArchiveRefusedError, match="together"):
        rows_of(content)


def test_archive_of_very_many_tables_is_read() -> None:
    tables = {f"{'long' * 220}/{each}.csv": b"file,text\na.png,b\n" for each in range(1200)}
    report = Report()
    with TemporaryFile() as file:
        file.write(zip_of(tables | {"a.png": IMAGE}))
        file.seek(0)
        (row,) = list_archive(file, URL, replace(LIMITS, members=2000), report)

    assert isinstance(row, ListItem)
    assert (row.annotation, len(report.tables)) == ("b", MAX_TABLES)


def test_fragment_is_a_member_of_an_archive_and_else_dropped() -> None:
    for path in ("a.zip", "A.ZIP", "a.tar", "a.tgz", "a.tar.gz"):
        url = f"https://x.test/{path}?v=1"
        assert to_row(1, f" {url}#x/é 1#%25.png\n") == ListItem(1, f"{url}#x/%C3%A9%201%23%25.png")
        assert to_row(1, member_url(url, "x/1.png")) == ListItem(1, f"{url}#x/1.png")
        assert to_row(1, f"{url}#") == ListItem(1, url)
    assert to_row(1, "https://x.test/a.png#x/1.png") == ListItem(1, "https://x.test/a.png")
    assert to_row(1, "https://x.test/?a.zip#x/1.png") == ListItem(1, "https://x.test/?a.zip")


def long_header() -> bytes:
    content = BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a.png")
        info.pax_headers = {"comment": "x" * (2 * 1024 * 1024)}
        archive.addfile(info)
    return content.getvalue()


def test_gzip_is_undone_no_further_than_the_limit() -> None:
    with BytesIO(gzip.compress(bytes(2000))) as file:
        with pytest.raises(ArchiveRefusedError):
            unzipped(file, ROOM, at_most(1999))
        with unzipped(file, ROOM, at_most(2000)) as whole:
            assert whole.tell() == 2000


def test_gzip_of_much_more_than_its_bytes_is_refused() -> None:
    limits = ArchiveLimits(50, 4 * FREE_BYTES, ratio=2)

    check_size(FREE_BYTES, 1, limits)
    check_size(2 * FREE_BYTES, FREE_BYTES, limits)
    with pytest.raises(ArchiveRefusedError, match="2 times"):
        check_size(2 * FREE_BYTES, FREE_BYTES - 1, limits)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (gzip.compress(b"a") + gzip.compress(b"b"), b"ab"),
        (gzip.compress(b"a") + bytes(600), b"a"),
        (gzip.compress(b"") * 3, b""),
        (gzip.compress(bytes(3_000_000)), bytes(3_000_000)),
        (gzip.compress(b"a") * 10_000, b"a" * 10_000),
        (gzip.compress(b"a") * 10_500, None),
        (gzip.compress(b"a") + b"more", None),
        (gzip.compress(b"a")[:-1], None),
        (b"\x1f\x8b\x08\x08" + bytes(6) + b"name" * 10**6, None),
        (b"\x1f\x8b", None),
    ],
    ids=["two", "padded", "empty", "large", "many", "too many", "more", "cut", "name", "mark"],
)
def test_gzip_is_what_its_members_hold(content: bytes, expected: bytes | None) -> None:
    with BytesIO(content) as file:
        if expected is None:
            with pytest.raises(GzipError):
                list(gunzipped(file))
        else:
            assert b"".join(gunzipped(file)) == expected


@pytest.mark.parametrize(
    "content",
    [
        zip_of({f"{number}.png": b"" for number in range(51)}),
        tar_of({f"{number}.png": b"" for number in range(51)}),
        zip_of({"a.png": bytes(600_000), "b.png": bytes(600_000)}),
        tar_of({"a": bytes(1_000_001)}, "w:gz"),
        zip_of({"a.png": IMAGE})[:-30],
        tar_of({"a.png": IMAGE})[:600],
        tar_of({"a.png": IMAGE}, "w:gz")[:-20],
        long_header(),
        b"%PDF",
    ],
    ids=[
        "zip members",
        "tar members",
        "zip bytes",
        "gzip bytes",
        "zip cut",
        "tar cut",
        "gzip cut",
        "tar header",
        "no archive",
    ],
)
def test_broken_or_too_large_archive_is_refused_as_a_whole(content: bytes) -> None:
    with pytest.raises(UnreadableFileError):
        rows_of(content)


@given(st.text(max_size=30), st.sampled_from(["/", "../", "a/../", "\\", "c:", "a/.."]))
def test_no_path_with_a_trick_is_safe(name: str, trick: str) -> None:
    assert not is_safe(trick + name) or trick == "a/.."
    assert not is_safe("a/../" + name)


@given(st.binary(max_size=400), st.integers(0, 400), st.sampled_from([zip_of, tar_of]))
def test_archive_with_changed_bytes_is_read_or_refused(
    noise: bytes, at: int, make: Callable[[Mapping[str, bytes]], bytes]
) -> None:
    content = bytearray(make({"a.png": IMAGE, "t.csv": b"file,text\na.png,b\n"}))
    at = at * len(content) // 400
    content[at : at + len(noise)] = noise
    with io.BytesIO(bytes(content)) as file:
        try:
            rows = list(archive_rows(OpenArchive(file, LIMITS), URL, LIMITS))
        except ArchiveRefusedError:
            return
    assert all(is_text(row.url if isinstance(row, ListItem) else row.value) for row in rows)


class Watched(BytesIO):
    """Notes which threads read it, and holds the first one up."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.readers: list[int] = []
        self.is_read, self.is_read_by_another, self.goes_on = (threading.Event() for _ in range(3))

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        self.readers.append(threading.get_ident())
        if self.readers[0] != self.readers[-1]:
            self.is_read_by_another.set()
        elif not self.is_read.is_set():
            self.is_read.set()
            assert self.goes_on.wait(DEADLINE_SECONDS)
        return super().read(size)


def test_threads_read_members_of_a_tar_in_turn() -> None:
    """A caller that is cancelled leaves its reading thread behind, and the next one comes."""
    file = Watched(tar_of({f"{number}.png": bytes([number]) * 100 for number in range(9)}))
    index = BytesIO(b"".join(OpenArchive(BytesIO(file.getvalue()), LIMITS).index()))
    archive = MemberReader(file, index)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(archive.read, "1.png", max_bytes=1000)
        assert file.is_read.wait(DEADLINE_SECONDS)
        second = threads.submit(archive.read, "8.png", max_bytes=1000)
        file.is_read_by_another.wait(0.2)
        file.goes_on.set()

        assert (first.result(), second.result()) == (b"\1" * 100, b"\10" * 100)
    assert len(list(groupby(file.readers))) == 2


@pytest.mark.parametrize(
    ("text", "annotation"),
    [
        ("0 0.5 0.5 0.2 0.1", None),
        ("0 0.5 0.5 0.2 0.1\n1 0.1 0.2 0.3 0.4\n", None),
        ("06 12 34 56 78", "06 12 34 56 78"),
        ("1914 " * 40 + "total", ("1914 " * 40 + "total")),
    ],
)
def test_text_is_taken_for_boxes_only_if_its_numbers_are_shares(
    text: str, annotation: str | None
) -> None:
    (row,) = rows_of(zip_of({"a.png": IMAGE, "a.txt": text.encode()}))

    assert isinstance(row, ListItem)
    assert row.annotation == annotation
