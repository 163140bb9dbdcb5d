"""Pages in the review page: their list, one with its lines, and a line within its page."""

import re
from datetime import timedelta
from html import unescape
from urllib.parse import quote

import pytest

from services.review.routes import pages
from tests.support.pages import page_file
from tests.support.review import NOW, PAGE_KEY, PAGE_TEXTS, Person, Site, add_page

pytestmark = pytest.mark.integration

PATH = "/pages/%3Cb%3E%C3%A9%201.png"


@pytest.mark.parametrize("is_transcribed", [False, True])
async def test_page_is_annotated_line_by_line(
    review: Site,
    ada: Person,
    is_transcribed: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    etag = await add_page(review, is_transcribed=is_transcribed)

    listed = await ada.see("/pages")
    assert f'href="{PATH}"' in listed
    assert "3 lines" in listed
    html = await ada.see(PATH)
    assert [html.count(f'value="{text}"') for text in PAGE_TEXTS] == [2, 2, 2]
    assert 'points="100 100 600 100 600 140 100 140"' in html
    assert "<b>" not in html
    line = f"{review.store.bucket}/lines/1.webp"
    etag_of_line = (await review.document(line))["etag"]
    form = {"token": ada.token, "id": line, "etag": etag_of_line, "shown": PAGE_TEXTS[1]}
    form |= {"text": "the second line", "quality": "ok"}
    headers = {"HX-Request": "true"}
    async with ada.client.post("/image/annotate", data=form, headers=headers) as response:
        assert response.status == 204
    assert (await review.document(line))["annotation"]["text"] == "the second line"
    assert 'class="done"' in await ada.see(PATH)

    query = {"id": f"{review.store.bucket}-pages/{PAGE_KEY}", "etag": etag}
    async with ada.client.get("/page-content", params=query) as response:
        assert (response.status, await response.read()) == (200, page_file())
    async with ada.client.get("/page-content", params={**query, "etag": "other"}) as response:
        assert response.status == 409


async def test_line_is_shown_within_its_page(review: Site, ada: Person) -> None:
    await add_page(review)

    query = f"id={review.store.bucket}/lines/0.webp"
    html = await ada.see(f"/image?{query}")
    assert (await ada.see(f"/image/strip?{query}")).strip() in html
    assert f'hx-get="/image/strip?{quote(query, safe="=")}"' in await ada.see("/queue")

    assert 'viewBox="0 0 1500 240"' in html
    assert html.count("<polygon") == len(PAGE_TEXTS)
    assert html.count('class="now "') == 1
    assert all(text in html for text in PAGE_TEXTS)
    assert f'href="{PATH}#line-1"' in html


async def test_rejected_page_has_a_reason_and_no_picture(review: Site, ada: Person) -> None:
    error = {"code": "no_lines", "detail": "nothing <found>"}
    etag = await add_page(review, status="rejected", error=error, lines=[])

    assert "no_lines: nothing &lt;found&gt;" in await ada.see(PATH)
    assert "no_lines" in await ada.see("/pages?status=rejected")
    query = {"id": f"{review.store.bucket}-pages/{PAGE_KEY}", "etag": etag}
    async with ada.client.get("/page-content", params=query) as response:
        assert response.status == 415
    await ada.see("/pages/none.png", status=404)


@pytest.mark.parametrize("document", ["", "book.pdf"])
async def test_pages_are_listed_in_parts(
    review: Site, ada: Person, monkeypatch: pytest.MonkeyPatch, document: str
) -> None:
    monkeypatch.setattr(pages, "SHOWN_PAGES", 2)
    for number in range(1, 6):
        part = {"sha256": "0" * 64, "key": "book.pdf", "number": number, "of": 5}
        changed = NOW - timedelta(hours=number // 3)
        page = {"_id": f"pages/{number}.webp", "key": f"{number}.webp", "status": "segmented"}
        await review.index.pages.insert({**page, "document": part, "indexed_at": changed})

    seen, path = [], f"/pages?document={document}"
    while path:
        html = await ada.see(path)
        seen.append(re.findall(r'href="/pages/(\d).webp"', html))
        later = re.search(r'rel="next" class="button" href="([^"]+)"', html)
        path = unescape(later[1]) if later else ""

    assert seen == (
        [["1", "2"], ["3", "4"], ["5"]] if document else [["2", "1"], ["5", "4"], ["3"]]
    )
