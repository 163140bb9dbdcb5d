"""Results and order of the gallery."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from html import unescape
from itertools import count
from urllib.parse import quote

import pytest

from services.common.adapters.keyset import LIMIT
from tests.support.review import NOW, Person, Site, add_page, known

ERROR = {"code": "undecodable_image", "detail": "damaged"}


LETTER = {
    "kind": "archive",
    "collection": "letters",
    "name": "p 7.png",
    "group": "page 1",
    "metadata": {"year": 1916},
}


async def pages(person: Person, query: str) -> AsyncIterator[str]:
    """Yield the pages of a search: one shows what was found in a moment, which may be nothing."""
    path: str | None = f"/gallery?{query}"
    while path:
        html = await person.see(path)
        yield html
        path = unescape(html.partition('rel="next"')[2].partition('href="')[2].partition('"')[0])


async def found(person: Person, query: str) -> str:
    """Return the cards of all pages of a search."""
    return "".join(
        [
            html.partition('class="cards"')[2].partition("</ul>")[0]
            async for html in pages(person, query)
        ]
    )


async def test_text_search_takes_every_sign_as_it_is(review: Site, ada: Person) -> None:
    await review.add(known("a.b (c) [d] $1", 0.5), known("axb", 0.4), known("Été à Nice", 0.3))
    brackets = await found(ada, "q=A.B+%28c")
    assert "a.b (c)" in brackets
    assert "axb" not in brackets
    assert "Nice" in await found(ada, "q=nice&order=worst")
    assert 'class="read"' not in await found(ada, "q=%00.*")
    assert "axb" in await found(ada, "q=axb&order=best")


async def test_filters_leave_out_what_does_not_meet_them(review: Site, ada: Person) -> None:
    note = {"text": "Right", "quality": "ok", "by": "bob", "at": NOW}
    await review.add(
        known("low", 0.1, annotation=note),
        known(
            "middle", 0.5, sources=[{"url": "http://h.example:8080/a", "batch_id": "b1"}, LETTER]
        ),
        known("high", 0.9),
        known("bad", 0.0, status="rejected", prediction=None, error=ERROR),
    )
    for query, expected in {
        "low=0.4&high=0.6": {"middle"},
        "order=worst&low=0.4": {"middle", "high"},
        "order=best&high=0.4": {"low"},
        "status=rejected": {"the image is damaged"},
        "annotated=yes": {"low"},
        "annotated=no&status=predicted": {"middle", "high"},
        "annotated=unreadable": set(),
        "host=h.example": {"middle"},
        "host=example": set(),
        "batch=b1": {"middle"},
        "collection=letters": {"middle"},
        "collection=letters&batch=b1": set(),
        "collection=nothing": set(),
        "collection=&group=page+1&where=metadata.year%3D1916": {"middle"},
        "q=p+7.PNG": {"middle"},
        "q=h.example": {"middle"},
        "q=right": {"low"},
    }.items():
        cards = await found(ada, query)
        words = {
            each for each in ("low", "middle", "high", "the image is damaged") if each in cards
        }
        assert words == expected, query
    for query in ("group=page+1", "where=metadata.year%3D1916"):
        assert "p 7.png" in await found(ada, query), query  # not its source with a URL


@pytest.mark.parametrize(
    "text",
    [
        "Est qu\u2019elle entre \u00e0 R\u00e9buff\u00e9 (1.5)",
        "Est qu'elle entre \u00e0 Re\u0301buffe\u0301 (1.5)",
    ],
)
async def test_search_finds_french_as_it_is_typed(review: Site, ada: Person, text: str) -> None:
    await review.add(known(text, 0.5))
    for query in ("qu'elle", "rebuffe", "ENTRE A", "e\u0301buffe\u0301 (1.5", "R\u00e9buff\u00e9"):
        assert 'class="read">Est qu' in await ada.see(f"/gallery?q={quote(query)}"), query
    for query in ("qu elle", "1x5", "r.buffe"):
        assert "Nothing found" in await ada.see(f"/gallery?q={quote(query)}"), query


@pytest.mark.parametrize("text", ["Vi\u1ec7t", "Bra\u0219ov", "\u0153uvre", "\u01ce \u0394"])
async def test_search_finds_what_is_typed_exactly(review: Site, ada: Person, text: str) -> None:
    await review.add(known(text, 0.5))
    assert f'class="read">{text}' in await ada.see(f"/gallery?q={quote(text)}")


async def test_interrupted_search_does_not_claim_there_is_nothing(
    review: Site, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIRST_SECONDS", "SEARCH_SECONDS"):
        monkeypatch.setattr(f"services.review.search_limits.{name}", -1.0)
    await review.add(known("far", 0.03))
    shown = []
    async for html in pages(ada, "q=far&order=worst"):
        if 'class="read">far' in html:
            break
        shown.append(html)

    assert 0 < len(shown) < 10
    assert all("None found so far" in html and "Search further" in html for html in shown)


async def test_page_comes_before_the_end_of_its_search(
    review: Site, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.review.search_limits.FIRST_SECONDS", -1.0)
    await review.add(known("far", 0.5))
    first = await ada.open("/gallery?q=far&order=worst")

    assert "Searching\u2026" in first
    assert 'class="read">far' not in first
    assert "every 2s" not in await ada.open("/gallery")
    renewed = re.search(r'hx-get="([^"]+)"[^>]*every 2s', await ada.see("/gallery"))
    assert renewed
    assert 'class="read">far' in await ada.open(unescape(renewed[1]))
    assert 'class="read">far' in await ada.see("/gallery?q=far&order=worst")


async def test_search_of_all_images_is_one_page_where_machine_is_slow(
    review: Site, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at the clock finds a tenth of a second gone."""
    seconds = count()
    monkeypatch.setattr("services.review.found_page.monotonic", lambda: next(seconds) / 10)
    await review.add(known("far", 0.5))

    html = await ada.see("/gallery?q=far")

    assert 'class="read">far' in html
    assert "Search further" not in html


@pytest.mark.parametrize("order", ["newest", "worst", "best"])
async def test_paging_shows_every_image_once(review: Site, ada: Person, order: str) -> None:
    total = LIMIT + 40
    documents = [
        known(f"line-{number:03}-", 0.0 if number < LIMIT + 10 else number / total / 2)
        for number in range(total)
    ]
    for number, document in enumerate(documents):
        document["indexed_at"] = NOW - timedelta(hours=number // (LIMIT + 10))
    await review.database.images.insert_missing(documents)
    seen: list[str] = []
    async for html in pages(ada, f"order={order}"):
        seen += [part.partition("</span>")[0] for part in html.split('class="read">')[1:]]
    assert len(seen) == total
    assert len(set(seen)) == total


async def test_limits_are_kept_from_page_to_page(review: Site, ada: Person) -> None:
    await review.add(*(known(f"line-{each}-", 0.5, sources=[LETTER]) for each in range(30)))
    await review.add(known("other", 0.5))

    newest = await ada.see("/gallery?collection=letters")
    shown = [html async for html in pages(ada, "collection=letters&where=metadata.year%3D1916")]

    renewed = newest.partition(
        '<div id="found" hx-get="/gallery?collection=letters&amp;wait=true"'
    )[2]
    assert 'rel="next"' in renewed.partition("</div>")[0]
    assert not any('hx-get="/gallery' in html for html in shown)
    assert len(shown) == 2
    assert "".join(shown).count('class="read">line-') == 30
    for html in shown:
        assert '<option value="letters" selected>' in html
        assert 'name="where" value="metadata.year=1916"' in html
        assert 'p 7.png · <a href="/gallery?collection=letters">letters</a>' in html


async def test_image_leads_to_those_of_its_group_and_metadata(review: Site, ada: Person) -> None:
    image = known("line", 0.5, sources=[LETTER])
    await review.add(image)
    page = await ada.see(f"/image?id={image['_id']}")
    for query in ("collection=letters", "group=page+1", "where=metadata.year%3D1916"):
        assert f'href="/gallery?{query}"' in page
        assert "line" in await found(ada, query)


async def test_placeholder_is_shown_as_one(review: Site, ada: Person) -> None:
    conflict = {"annotation_conflict": "sources_disagree"}
    many = known("unavailable", 0.9, placeholder=True, sources_count=54321, **conflict)
    await review.add(many, known("line", 0.5))

    assert (await found(ada, "")).count("placeholder of 54,321 addresses") == 1
    page = await ada.see(f"/image?id={many['_id']}")
    assert "54,321 addresses lead to this image" in page
    assert "lists disagree about its text" in page
    assert "The first 0 of 54,321." in page


async def test_image_of_a_source_of_unknown_kind_is_shown(review: Site, ada: Person) -> None:
    source = {name: LETTER[name] for name in ("collection", "name")}
    image = known("old", 0.5, sources=[source])
    await review.add(image)

    assert "/gallery?collection=letters" in await ada.see(f"/image?id={image['_id']}")


async def test_metadata_has_inputs_in_gallery_and_queue(review: Site, ada: Person) -> None:
    await review.add(known("letter", 0.5, sources=[LETTER]), known("other", 0.6))

    for path in ("/gallery", "/queue"):
        some = await ada.see(f"{path}?where=metadata.year%3D1916&where=")
        inputs = re.findall(r'name="where" value="([^"]*)" maxlength', some)
        assert inputs == ["metadata.year=1916", ""]
        assert ("letter" in some, "other" in some) == (True, False)


async def test_end_of_a_search_of_pages_is_announced(
    review: Site, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_page(review)
    monkeypatch.setattr("services.review.search_limits.FIRST_SECONDS", -1.0)

    first = await ada.open("/pages")
    last = await ada.finish(first)

    said = [re.findall(r'<p id="heard"[^>]*>([^<]*)</p>', each) for each in (first, last)]
    assert said == [[""], ["1 page"]]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("/gallery?low=abc", "low can\u2019t be \u201cabc\u201d: it is not a number"),
        ("/gallery?high=2", "high can\u2019t be \u201c2\u201d: it must be at most 1"),
        ("/gallery?order=odd", "order can\u2019t be \u201codd\u201d: it must be one of"),
        ("/gallery?q=" + "x" * 201, "\u201d: it has more than 200 characters"),
        ("/gallery?where=year", "where can\u2019t be \u201cyear\u201d: 'year' is not a condition"),
        ("/queue?mode=odd", "mode can\u2019t be \u201codd\u201d: it must be one of"),
        ("/pages?wait=odd", "wait can\u2019t be \u201codd\u201d: it must be true or false"),
        ("/gallery?since=soon", "since can\u2019t be \u201csoon\u201d: it is not a time"),
        ("/image", "the parameter id is missing"),
    ],
)
async def test_wrong_parameter_is_named_with_its_value(
    ada: Person, address: str, message: str
) -> None:
    page = unescape(await ada.see(address, status=422))

    assert message in page
