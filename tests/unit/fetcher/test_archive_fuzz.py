"""Archives with any bytes changed: read or refused, never a bug, and never more than 64 MiB.

250 cases; 10,000 with ``--hypothesis-profile thorough``.
"""

import gzip
import struct
import tarfile
import zipfile
from io import BytesIO
from tempfile import TemporaryFile

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from services.common.runtime.bounded_child import BoundedChild, ChildLimits
from tests.support.archive_reading import packed
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

pytestmark = pytest.mark.slow

MEMORY_BYTES = 64 * 2**20
"""Beyond what the interpreter and its modules take."""
CHILD = ChildLimits(memory_bytes=256 * 2**20, cpu_seconds=60)
CASES = 25
EXAMPLES = settings().max_examples // 10
FILES = {
    "a.png": b"image" * 100,
    "é/b.jpg": b"\xff\xd8",
    "t.csv": b"file,text\na.png,b\n",
    "d/": b"",
}


def real_zip(compression: int) -> bytes:
    content = BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, body in FILES.items():
            archive.writestr(name, body)
        with archive.open("z.png", "w", force_zip64=True) as member:
            member.write(b"zip64")
    return content.getvalue()


def real_tar(form: int) -> bytes:
    content = BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=form) as archive:
        for name, body in {**FILES, "n" * 90 + "/" + "m" * 90 + ".png": b"long"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            info.pax_headers = {"comment": "é"}
            archive.addfile(info, BytesIO(body))
    return content.getvalue()


REAL = [
    *(real_zip(each) for each in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)),
    *(real_tar(each) for each in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)),
]
HOSTILE = [
    many_entries(20_000),
    zip_file([Member(), Member(at=0)]),
    zip_file([Member(size=2**32 - 1)], End(0xFFFF, 0xFFFFFFFF, zip64=End())),
    zip_file([Member(content=bytes(200_000), size=10**6, method=8)]),
    pax(b"1" * 60_000) + tar_member("a.png", b"a") + END_OF_TAR,
    pax(pax_record("size", "1" * 20) + pax_record("path", "../../x")) + tar_member("a.png", b"a"),
    pax(pax_record("GNU.sparse.map", "0,1" * 1000)) + tar_member("a.png", b"a") + END_OF_TAR,
    tar_member("x", b"n" * 60_000, b"L") + tar_header("a.png", b"1", 0, "b.png") + END_OF_TAR,
    tar_header("a.png", b"S", 2**33),
    bytes(3_000_000),
]
BASES = [*REAL, *HOSTILE]
NUMBERS = st.sampled_from([0, 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]).map(
    lambda number: struct.pack("<Q", number)
)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["write", "insert", "remove", "repeat", "cut"]),
        st.floats(0, 1, exclude_max=True),
        st.one_of(
            st.binary(min_size=1, max_size=8),
            NUMBERS,
            st.sampled_from(
                [b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"ustar\0", b"x"]
            ),
        ),
    ),
    max_size=6,
)


def changed(content: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    """Apply changes at places that are shares of the length; many are near the end, as in zips."""
    for kind, share, noise in changes:
        at = int(len(content) * share)
        end = at + len(noise)
        match kind:
            case "write":
                content = content[:at] + noise + content[end:]
            case "insert":
                content = content[:at] + noise + content[at:]
            case "remove":
                content = content[:at] + content[end:]
            case "repeat":
                content = content[:at] + content[at : at + 512] * 5 + content[at:]
            case _:
                content = content[:at]
    return content


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    content = changed(draw(st.sampled_from(BASES)), draw(CHANGES))
    match draw(st.sampled_from(["plain", "plain", "gzip", "broken gzip"])):
        case "gzip":
            return gzip.compress(content, 1, mtime=0)
        case "broken gzip":
            return changed(gzip.compress(content, 1, mtime=0), draw(CHANGES))
        case _:
            return content


def read(contents: list[bytes]) -> list[str]:
    with TemporaryFile() as file:
        file.write(packed(contents))
        file.flush()
        target = "tests.support.archive_reading:outcomes"
        with BoundedChild(target, file, CHILD) as child:
            return list(child.results())


def test_bases_of_the_fuzz_test_are_what_they_are_meant_to_be() -> None:
    *outcomes, _ = read(BASES)

    assert [each.partition(":")[0].partition(" ")[0] for each in outcomes[: len(REAL)]] == [
        "read"
    ] * len(REAL)
    assert sum(each.startswith("refused") for each in outcomes[len(REAL) :]) >= 7


@settings(max_examples=EXAMPLES)
@given(st.lists(archives(), min_size=CASES, max_size=CASES))
def test_any_archive_is_read_or_refused_within_its_memory(contents: list[bytes]) -> None:
    *outcomes, memory = read(contents)

    assert len(outcomes) == CASES
    for outcome in outcomes:
        event(outcome.partition(":")[0].partition(" ")[0])
    assert int(memory.partition(" ")[2]) < MEMORY_BYTES
