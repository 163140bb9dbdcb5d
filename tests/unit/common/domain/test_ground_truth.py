"""Transcriptions of pages: the dialects of PAGE XML and ALTO that are in the wild."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.domain.ground_truth.elements import MAX_DEPTH, GroundTruthError
from services.common.domain.ground_truth.reading import placed, read_transcript
from services.common.domain.ground_truth.transcript import TextLine, Transcript
from services.common.domain.ground_truth.writing import to_alto, to_page

NOW = datetime(2026, 11, 28, tzinfo=UTC)
PAGE_2019 = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"
ALTO_4 = "http://www.loc.gov/standards/alto/ns-v4#"
COORDS = '<Coords points="10,10 90,10 90,30 10,30"/>'
BOX = 'HPOS="10" VPOS="10" WIDTH="80" HEIGHT="20"'
POLYGON = (10, 10, 90, 10, 90, 30, 10, 30)


def page(
    body: str, namespace: str = PAGE_2019, size: str = 'imageWidth="100" imageHeight="200"'
) -> str:
    return (
        f'<PcGts xmlns="{namespace}"><Metadata/><Page imageFilename="a.jpg" {size}>{body}</Page>'
        "</PcGts>"
    )


def region(*lines: str, name: str = "r1", kind: str = "TextRegion", attributes: str = "") -> str:
    return f'<{kind} id="{name}" {attributes}>{COORDS}{"".join(lines)}</{kind}>'


def line(text: str, name: str = "l1", inside: str = COORDS, custom: str = "") -> str:
    equiv = f"<TextEquiv><Unicode>{text}</Unicode></TextEquiv>" if text else ""
    return f'<TextLine id="{name}" custom="{custom}">{inside}{equiv}</TextLine>'


def word(text: str) -> str:
    return f"<Word>{COORDS}<TextEquiv><Unicode>{text}</Unicode></TextEquiv></Word>"


def equivs(*texts: tuple[str, str]) -> str:
    parts = (
        f"<TextEquiv {attributes}><Unicode>{text}</Unicode></TextEquiv>"
        for attributes, text in texts
    )
    return f'<TextLine id="l1">{COORDS}{"".join(parts)}</TextLine>'


def alto(
    body: str,
    namespace: str = ALTO_4,
    unit: str = "pixel",
    size: str = 'WIDTH="100" HEIGHT="200"',
    tags: str = "",
) -> str:
    return (
        f'<alto xmlns="{namespace}"><Description><MeasurementUnit>{unit}</MeasurementUnit>'
        "<sourceImageInformation><fileName>a.jpg</fileName></sourceImageInformation>"
        f"</Description>{tags}<Layout><Page {size}><PrintSpace>{body}</PrintSpace></Page></Layout>"
        "</alto>"
    )


def block(*lines: str, name: str = "b1") -> str:
    return f'<TextBlock ID="{name}">{"".join(lines)}</TextBlock>'


def alto_line(inside: str, name: str = "l1", place: str = BOX) -> str:
    return f'<TextLine ID="{name}" {place}>{inside}</TextLine>'


def string(text: str, attributes: str = "") -> str:
    return f'<String CONTENT="{text}" {attributes}/>'


def table_of(cell: str) -> str:
    return region(region(line("a"), name="c1", kind=cell), name="t1", kind="TableRegion")


ORDERED = (
    '<ReadingOrder><OrderedGroup id="g"><RegionRefIndexed index="1" regionRef="r1"/>'
    '<OrderedGroupIndexed id="h" index="0"><RegionRefIndexed index="0" regionRef="r2"/>'
    "</OrderedGroupIndexed></OrderedGroup></ReadingOrder>"
)
PAGE_DIALECTS = {
    **{
        f"version {version}": (page(region(line("a b")), PAGE_2019[:-10] + version), ["a b"])
        for version in ("2009-03-16", "2010-03-19", "2013-07-15", "2016-07-15", "2017-07-15")
    },
    "prefixed namespace": (
        page(region(line("a")))
        .replace("<", "<pc:")
        .replace("<pc:/", "</pc:")
        .replace("xmlns=", "xmlns:pc="),
        ["a"],
    ),
    "points as elements": (
        page(
            region(
                line(
                    "a",
                    inside='<Coords><Point x="10" y="10"/><Point x="90" y="10"/>'
                    '<Point x="90" y="30"/><Point x="10" y="30"/></Coords>',
                )
            )
        ),
        ["a"],
    ),
    "index, best first": (
        page(region(equivs(('index="1"', "worse"), ('index="0"', "best")))),
        ["best"],
    ),
    "index from 1": (page(region(equivs(('index="2"', "worse"), ('index="1"', "best")))), ["best"]),
    "confidence decides ties": (
        page(region(equivs(('conf="0.91"', "worse"), ('conf="0.95"', "best")))),
        ["best"],
    ),
    "tie of two texts": (page(region(equivs(("", "one"), ("", "two")))), [None]),
    "doubted": (page(region(equivs(('conf="0.4"', "a")))), [None]),
    "unclear part": (page(region(line("a b", custom="unclear {offset:0; length:1;}"))), [None]),
    "text of words alone": (
        page(region(line("", inside=COORDS + word("Bon") + word("jour")))),
        ["Bon jour"],
    ),
    "words do not repeat the line": (
        page(region(line("Bonjour", inside=COORDS + word("Bon")))),
        ["Bonjour"],
    ),
    "plain text alone": (
        page(region(line("", inside=f"{COORDS}<TextEquiv><PlainText>a</PlainText></TextEquiv>"))),
        ["a"],
    ),
    "no text": (page(region(line(""))), [None]),
    "empty Unicode": (page(region(equivs(("", "")))), [None]),
    "nested regions": (page(region(region(line("a"), name="r2"))), ["a"]),
    "region in a table": (page(table_of("TextRegion")), ["a"]),
    "cell of Transkribus": (page(table_of("TableCell")), ["a"]),
    "order of regions": (
        page(
            ORDERED
            + region(line("second"))
            + region(line("first", "l2", '<Coords points="0,0 9,0 9,9"/>'), name="r2")
        ),
        ["first", "second"],
    ),
    "order of lines": (
        page(
            region(
                line("second", custom="readingOrder {index:1;}"),
                line("first", "l2", '<Coords points="0,0 9,0 9,9"/>', "readingOrder {index:0;}"),
            )
        ),
        ["first", "second"],
    ),
    "fractions": (
        page(region(line("a", inside='<Coords points="9.8,10.2 90,10 90,30 10,30"/>'))),
        ["a"],
    ),
    "entities of XML": (page(region(line("a &amp; &#xE9;"))), ["a & é"]),
}
ALTO_DIALECTS = {
    **{
        namespace: (alto(block(alto_line(string("a"))), namespace), ["a"])
        for namespace in (
            "http://schema.ccs-gmbh.com/ALTO",
            "http://www.loc.gov/standards/alto/ns-v2#",
            "http://www.loc.gov/standards/alto/ns-v3#",
        )
    },
    "SP between strings": (alto(block(alto_line(string("a") + "<SP/>" + string("b")))), ["a b"]),
    "no SP between strings": (
        alto(block(alto_line(string("Bonjour") + string("monde")))),
        ["Bonjour monde"],
    ),
    "HYP": (
        alto(block(alto_line(string("cou", 'SUBS_CONTENT="couleur"') + '<HYP CONTENT="-"/>'))),
        ["cou-"],
    ),
    "HYP that is soft": (
        alto(block(alto_line(string("cou") + '<HYP CONTENT="&#xAD;"/>'))),
        ["cou-"],
    ),
    "not sign as HYP": (alto(block(alto_line(string("cou") + '<HYP CONTENT="¬"/>'))), ["cou¬"]),
    "doubted word": (alto(block(alto_line(string("a") + string("b", 'WC="0.3"')))), [None]),
    "composed block": (
        alto(f"<ComposedBlock ID='c'>{block(alto_line(string('a')))}</ComposedBlock>"),
        ["a"],
    ),
    "margin": (
        alto("").replace(
            "<PrintSpace>", f"<TopMargin>{block(alto_line(string('a')))}</TopMargin><PrintSpace>"
        ),
        ["a"],
    ),
    "no strings": (alto(block(alto_line(""))), [None]),
    "empty string": (alto(block(alto_line(string("")))), [None]),
    "comma polygon": (
        alto(
            block(
                alto_line(
                    '<Shape><Polygon POINTS="10,10 90,10 90,30 10,30"/></Shape>' + string("a")
                )
            )
        ),
        ["a"],
    ),
    "spaced polygon": (
        alto(
            block(
                alto_line(
                    '<Shape><Polygon POINTS="10 10 90 10 90 30 10 30"/></Shape>' + string("a")
                )
            )
        ),
        ["a"],
    ),
    "order of lines": (
        alto(
            '<ReadingOrder><OrderedGroup><ElementRef REF="l2"/><ElementRef REF="l1"/>'
            "</OrderedGroup></ReadingOrder>"
            + block(
                alto_line(string("second")),
                alto_line(string("first"), "l2", 'HPOS="0" VPOS="0" WIDTH="9" HEIGHT="9"'),
            )
        ),
        ["first", "second"],
    ),
    **{
        unit: (
            alto(
                block(
                    alto_line(string("a"), place='HPOS="254" VPOS="254" WIDTH="2032" HEIGHT="508"')
                ),
                unit=unit,
                size='WIDTH="2540" HEIGHT="5080"',
            ),
            ["a"],
        )
        for unit in ("mm10", "inch1200")
    },
}


@pytest.mark.parametrize(
    ("content", "texts"),
    [*PAGE_DIALECTS.values(), *ALTO_DIALECTS.values()],
    ids=[*(f"PAGE {name}" for name in PAGE_DIALECTS), *(f"ALTO {name}" for name in ALTO_DIALECTS)],
)
def test_dialects_are_read_alike(content: str, texts: list[str | None]) -> None:
    for encoding in ("utf-8", "utf-16"):
        found = placed(read_transcript(content.encode(encoding)), 100, 200)

        assert [each.text for each in found.lines] == texts
        assert POLYGON in [each.polygon for each in found.lines]
        assert found.image == "a.jpg"


ODD = {
    "line_without_text": page(region(line(""))),
    "line_without_polygon": page(region(line("a", inside='<Coords points="1,1 1,1"/>'))),
    "line_without_id": page(region(line("a", name=""))),
    "duplicate_line_id": page(
        region(line("a"), line("b", inside='<Coords points="0,0 9,0 9,9"/>'))
    ),
    "duplicate_line": page(region(line("a"), line("a", "l2"))),
    "texts_disagree": page(region(line("a"), line("b", "l2"))),
    "several_readings": page(region(equivs(('index="0"', "a"), ('index="1"', "b")))),
    "readings_disagree": page(region(equivs(("", "a"), ("", "b")))),
    "low_confidence": page(region(equivs(('conf="0.2"', "a")))),
    "unclear_text": page(region(line("a", custom="gap {offset:0; length:1;}"))),
    "text_without_lines": page(region("<TextEquiv><Unicode>a</Unicode></TextEquiv>")),
    "line_too_small": page(region(line("a", inside='<Coords points="200,0 300,0 300,50"/>'))),
    "line_clipped": page(region(line("a", inside='<Coords points="-9,10 90,10 90,30"/>'))),
    "line_off_page": page(region(line("a", inside='<Coords points="-9,10 90,10 90,30 -9,30"/>'))),
    "scaled": page(
        region(line("a", inside='<Coords points="5,5 45,5 45,15"/>')),
        size='imageWidth="50" imageHeight="100"',
    ),
}


@pytest.mark.parametrize("code", ODD)
def test_what_is_odd_has_a_code(code: str) -> None:
    found = placed(read_transcript(ODD[code].encode()), 100, 200)

    assert [each.code for each in found.problems] == [code]


@pytest.mark.parametrize(
    ("coords", "text"),
    [
        ("90,10 990,10 990,50 90,50", None),
        ("10,195 90,195 90,215 10,215", None),
        ("-900,10 90,10 90,30 -900,30", None),
        ("-3,10 97,10 97,30 -3,30", "a"),
        ("90,-3 103,10 103,30 90,30", None),
        ("10,10 101,10 101,30 10,30", "a"),
    ],
)
def test_text_of_a_line_needs_nearly_all_of_it_on_the_page(coords: str, text: str | None) -> None:
    content = page(region(line("a", inside=f'<Coords points="{coords}"/>')))

    (found,) = placed(read_transcript(content.encode()), 100, 200).lines

    assert found.text == text


REFUSED = {
    "no_ground_truth": "<mets/>",
    "damaged_xml": page(region(line("a")))[:-9],
    "forbidden_xml": "<!DOCTYPE PcGts [<!ENTITY a 'b'>]>" + page(region(line("&a;"))),
    "xml_too_large": page("<TextRegion>" * MAX_DEPTH + "</TextRegion>" * MAX_DEPTH),
    "several_pages": page("").replace("</Page>", "</Page><Page/>"),
    "page_size_differs": page("", size='imageWidth="200" imageHeight="100"'),
    "page_size_unknown": alto("", unit="mm10", size=""),
}


@pytest.mark.parametrize("code", REFUSED)
def test_a_file_that_is_refused_has_a_code(code: str) -> None:
    with pytest.raises(GroundTruthError) as caught:
        placed(read_transcript(REFUSED[code].encode()), 100, 200)

    assert caught.value.code == code


def test_many_points_are_refused_before_they_cost_memory() -> None:
    coords = f'<Coords points="{"1,1 " * 2_000_000}"/>'

    found = read_transcript(page(region(line("a", inside=coords))).encode())

    assert [each.code for each in found.problems] == ["line_without_polygon"]


def test_tags_of_line_and_region_are_kept() -> None:
    tags = (
        '<Tags><OtherTag ID="T1" LABEL="DefaultLine:Handwritten"/>'
        '<StructureTag ID="T2" LABEL="MainZone"/></Tags>'
    )
    body = block(alto_line(string("a"), place=f'{BOX} TAGREFS="T1"')).replace(
        "<TextBlock ", '<TextBlock TAGREFS="T2" '
    )
    custom = page(
        region(
            line("a", custom="readingOrder {index:0;} structure {type:heading;}").replace(
                "<TextLine", '<TextLine production="handwritten-cursive"'
            ),
            attributes='type="marginalia"',
        )
    )

    assert [
        read_transcript(each.encode()).lines[0].tags for each in (alto(body, tags=tags), custom)
    ] == [
        ("DefaultLine:Handwritten", "MainZone"),
        ("heading", "handwritten-cursive", "marginalia"),
    ]


@pytest.mark.parametrize(
    ("baseline", "points"), [("10 25 90 27", (10, 25, 90, 27)), ("25", (10, 25, 90, 25))]
)
def test_baselines_of_all_versions_are_read(baseline: str, points: tuple[int, ...]) -> None:
    content = alto(block(alto_line(string("a"), place=f'{BOX} BASELINE="{baseline}"')))

    assert read_transcript(content.encode()).lines[0].baseline == points


WORDS = st.text("aZ1é&<>\"';:{}\\\u017f\u05e9\u0301\u2026\U0001f642", min_size=1, max_size=5)
TEXTS = st.lists(WORDS, min_size=1, max_size=3).map(" ".join)


def places(least: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(
        st.tuples(st.integers(0, 3000), st.integers(0, 4000)), min_size=least, max_size=9
    ).map(lambda pairs: tuple(value for pair in pairs for value in pair))


LINES = st.builds(
    TextLine,
    st.just(""),
    TEXTS | st.none(),
    places(3),
    places(2) | st.none(),
    st.just(""),
    st.lists(TEXTS, max_size=3, unique=True).map(tuple),
)
REGIONS = st.lists(st.lists(LINES, min_size=1, max_size=3), max_size=2).map(
    lambda some: {f"r{number}": lines for number, lines in enumerate(some)}
)


@given(REGIONS, TEXTS)
def test_what_is_written_is_read_back_equal(regions: dict[str, list[TextLine]], image: str) -> None:
    lines = [
        replace(each, id=f"{name}-{number}", region=name)
        for name, some in regions.items()
        for number, each in enumerate(some)
    ]
    transcript = Transcript("alto", image, 3000, 4000, tuple(lines))

    for written in (to_alto(transcript), to_page(transcript, NOW)):
        read = read_transcript(written)
        missing = [each.line for each in read.problems if each.code == "line_without_text"]

        assert replace(read, kind="alto", problems=()) == transcript
        assert missing == [each.id for each in lines if each.text is None]


@pytest.mark.parametrize("write", [to_alto, lambda page: to_page(page, NOW)], ids=["alto", "page"])
def test_ids_that_xml_cannot_hold_can_be_read_back(write: Callable[[Transcript], bytes]) -> None:
    written = TextLine("a\x01", "Haus", POLYGON, region="r\x02")

    (found,) = read_transcript(write(Transcript("page", "a.jpg", 100, 200, (written,)))).lines

    assert (found.id, found.region, found.text) == ("a\ufffd", "r\ufffd", "Haus")


def test_lines_of_one_object_do_not_have_two_texts() -> None:
    near = tuple(value + 1 for value in POLYGON)
    lines = (TextLine("a", "Haus", POLYGON), TextLine("b", "Hof", near))

    found = placed(Transcript("page", "a.jpg", 5000, 5000, lines), 5000, 5000)

    assert [each.text for each in found.lines] == [None]
    assert [each.code for each in found.problems] == ["texts_disagree"]
