"""Pages in the review page: their list, one with its lines, and a line within its page."""

from typing import Any

import pytest

from services.common.adapters.object_store import sibling
from services.common.domain.page import GroundTruth
from tests.support.pages import page_file
from tests.support.review import NOW, Person, Site, known

pytestmark = pytest.mark.integration

KEY = "<b>é 1.png"
PATH = "/pages/%3Cb%3E%C3%A9%201.png"
TEXTS = ("first line", "second line", "third line")


async def add_page(review: Site, *, is_transcribed: bool = False, **fields: Any) -> str:
    """Add a page with three lines; return its ETag."""
    store = sibling(review.store, f"{review.store.bucket}-pages")
    await store.client.create_bucket(Bucket=store.bucket)
    etag = await store.write(KEY, page_file(), content_type="image/png", metadata={})
    page_id, lines = f"{store.bucket}/{KEY}", []
    for order, text in enumerate(TEXTS):
        top = 100 + 90 * order
        quad = (100, top, 600, top, 600, top + 40, 100, top + 40)
        key = f"lines/{order}.webp"
        lines.append({"id": str(order), "key": key, "quad": quad, "order": order})
        lines[-1] |= {"state": "current"}
        image = {"_id": f"{review.store.bucket}/{key}", "bucket": review.store.bucket, "key": key}
        of_page = {"id": page_id, "line": str(order), "quad": quad, "order": order}
        await review.add(known(text, 0.5, page=of_page) | image)
    truth = GroundTruth(sha256="0" * 64, lines=()).to_mongo()
    said = {"lines": [], "ground_truth": truth} if is_transcribed else {"lines": lines}
    page = {"_id": page_id, "bucket": store.bucket, "key": KEY, "etag": etag, "indexed_at": NOW}
    page |= {"status": "segmented", "width": 1500, "height": 800, "runs": [], "sources": []}
    await review.index.pages.insert({**page, **said, **fields})
    return etag


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
    assert [html.count(f'value="{text}"') for text in TEXTS] == [2, 2, 2]
    assert 'points="100 100 600 100 600 140 100 140"' in html
    assert "<b>" not in html
    line = f"{review.store.bucket}/lines/1.webp"
    form = {"token": ada.token, "id": line, "etag": "e1", "shown": TEXTS[1]}
    form |= {"text": "the second line", "quality": "ok"}
    headers = {"HX-Request": "true"}
    async with ada.client.post("/image/annotate", data=form, headers=headers) as response:
        assert response.status == 204
    assert (await review.document(line))["annotation"]["text"] == "the second line"
    assert 'class="done"' in await ada.see(PATH)

    query = {"id": f"{review.store.bucket}-pages/{KEY}", "etag": etag}
    async with ada.client.get("/page-content", params=query) as response:
        assert (response.status, await response.read()) == (200, page_file())
    async with ada.client.get("/page-content", params={**query, "etag": "other"}) as response:
        assert response.status == 409


async def test_line_is_shown_within_its_page(review: Site, ada: Person) -> None:
    await add_page(review)

    html = await ada.see(f"/image?id={review.store.bucket}/lines/0.webp")

    assert 'viewBox="0 0 1500 240"' in html
    assert html.count("<polygon") == len(TEXTS)
    assert html.count('class="now "') == 1
    assert all(text in html for text in TEXTS)
    assert f'href="{PATH}#line-1"' in html


async def test_rejected_page_has_a_reason_and_no_picture(review: Site, ada: Person) -> None:
    error = {"code": "no_lines", "detail": "nothing <found>"}
    etag = await add_page(review, status="rejected", error=error, lines=[])

    assert "no_lines: nothing &lt;found&gt;" in await ada.see(PATH)
    assert "no_lines" in await ada.see("/pages?status=rejected")
    query = {"id": f"{review.store.bucket}-pages/{KEY}", "etag": etag}
    async with ada.client.get("/page-content", params=query) as response:
        assert response.status == 415
    await ada.see("/pages/none.png", status=404)
