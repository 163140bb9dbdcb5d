"""Images in one part of a data set."""

import hashlib
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.domain.image import ImageDocument
from services.common.domain.records import Source
from services.datasets.copies import provenance_of
from services.datasets.evaluation import SplitPart
from services.datasets.grouping import GROUPINGS, Splitting, source_group
from services.datasets.manifest import ExportQuery, Format, ManifestRecord
from services.datasets.selection import to_record
from services.datasets.splits import NAMES
from tests.factories import NOW, annotation, document


def image(name: str = "a.png", *sources: dict[str, Any], key: str = "a.png") -> list[ImageDocument]:
    """Return the one document of an image that came by these ways."""
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    came = [{"kind": "archive", "batch_id": "b", "at": NOW} | each for each in sources]
    return [document(sha256=sha256, key=key, sources=came)]


def rule(group_by: str = "group", *, use_given: bool = False) -> Splitting:
    return Splitting.parse("40/30/30", group_by, use_given=use_given)


@pytest.mark.parametrize(
    ("group_by", "source", "groups"),
    [
        ("group", {"group": "letter 7"}, ["group:letter 7"]),
        ("group", {"group": "He\u0301le\u0300ne"}, ["group:H\u00e9l\u00e8ne"]),
        ("metadata.a", {"metadata": {"a": "e\u0301"}}, ["metadata.a:\u00e9"]),
        ("source", {"collection": "e\u0301"}, ["collection:\u00e9"]),
        ("group", {"metadata": {"group": "no group"}}, []),
        ("document", {"metadata": {"document": "d"}, "group": "hand 2"}, ["document:d"]),
        ("document", {"group": "hand 2"}, ["group:hand 2"]),
        ("page", {"metadata": {"page": 12}}, ["page:12"]),
        ("collection", {"collection": "letters", "group": "g"}, ["collection:letters"]),
        (
            "metadata.a.b",
            {"metadata": {"a": {"b": [1, 2]}}},
            ["metadata.a.b:[1, 2]"],
        ),
        ("metadata.a.b", {"metadata": {"a": "no object"}}, []),
        ("source", {"collection": "letters"}, ["collection:letters"]),
        ("image", {"group": "g"}, ["group:g"]),
    ],
)
def test_group_of_an_image(group_by: str, source: dict[str, Any], groups: list[str]) -> None:
    assert rule(group_by).groups(image("a", source)) == groups


@pytest.mark.parametrize(
    ("group_by", "page", "group"),
    [
        ("group", {"id": "pages/p", "line": "1"}, "group:pages/p"),
        ("group", {"id": "pages/p", "line": "1", "document": "d"}, "group:d"),
        ("group", {"id": "pages/p", "line": "1", "document": "d", "group": "g"}, "group:g"),
        ("document", {"id": "pages/p", "line": "1", "document": "d"}, "document:d"),
        ("page", {"id": "pages/p", "line": "1"}, "page:pages/p"),
    ],
)
def test_lines_of_a_page_belong_together(group_by: str, page: dict[str, str], group: str) -> None:
    line = document(sha256="a" * 64, page=page, sources=[{"kind": "page"}])
    assert rule(group_by).groups([line]) == [group]


def test_earliest_source_decides_and_all_groups_are_known() -> None:
    later = {"group": "b", "at": NOW.replace(day=25)}
    copies = image("a", later, {"group": "a"}, {}, {"group": "b"})
    assert rule().groups(copies) == ["group:a", "group:b"]
    assert rule().place(copies) == rule().place(image("other", {"group": "a"}))


def test_source_is_the_first_host_or_the_folder() -> None:
    urls = ("https://B.example/1", "http://a.example:8/2", "http://[bad")
    provenance = provenance_of([document(sources=[Source(url=url) for url in urls])])
    assert provenance.hosts == ["b.example", "a.example"]
    assert source_group(provenance) == "host:b.example"
    assert source_group(provenance_of(image(key="scans/1/a.png"))) == "folder:scans/1"


@given(
    st.sampled_from([each for each in GROUPINGS if each != "image"]),
    st.lists(st.sampled_from("abcdefgh"), min_size=20, max_size=60),
)
def test_group_is_never_in_two_parts(group_by: str, names: list[str]) -> None:
    parts: dict[str, set[str]] = defaultdict(set)
    for number, name in enumerate(names):
        said = {"group": name, "collection": name, "metadata": {group_by: name}}
        copies = image(str(number), said)
        (group,) = rule(group_by).groups(copies)
        parts[group].add(rule(group_by).place(copies))
    assert len(parts) == len(set(names))
    assert all(len(some) == 1 for some in parts.values())


def test_sources_that_an_export_is_limited_to_decide_first() -> None:
    earlier = {"collection": "a", "split": "train", "group": "ga", "url": "https://a.example/"}
    later = {"collection": "b", "split": "test", "group": "gb", "url": "https://b.example/"}
    (found,) = image("a", earlier, later | {"at": NOW.replace(day=25)})
    copies = [found.having(annotation=annotation("text"))]
    query = ExportQuery(format=Format.HF, bucket="raw", collection="b", use_split=True)

    def limited(group_by: str) -> Splitting:
        return Splitting.parse("40/30/30", group_by, use_given=True, limits=query)

    record = to_record(copies, query, limited("group"))
    assert isinstance(record, ManifestRecord)
    assert (record.split, record.group, record.hosts[0]) == ("test", "gb", "b.example")
    assert record.split_groups == ["group:gb", "group:ga"]
    assert limited("source").groups(copies) == ["host:b.example"]
    assert SplitPart(limited("group"), "test").has(copies)
    assert rule(use_given=True).place(copies) == "train"


@pytest.mark.parametrize("split", NAMES)
def test_given_split_counts_where_asked(split: str) -> None:
    copies = image("a", {"split": "unknown"}, {"group": "g", "split": split})
    assert rule(use_given=True).place(copies) == split
    assert rule().place(copies) == rule(use_given=True).place(image("b", {"group": "g"}))


def test_image_without_a_group_stays_where_it_was() -> None:
    copies = image("a", {"collection": "c"})
    assert rule().groups(copies) == []
    assert rule().place(copies) == rule("image").place(image("a", {"group": "any"}))


@pytest.mark.parametrize("text", ["", "hand", "metadata.", "metadata"])
def test_grouping_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a grouping"):
        rule(text)
