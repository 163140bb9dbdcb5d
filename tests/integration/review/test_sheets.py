"""Pages in the review page: their list, one with its lines, and a line within its page."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import partial
from html import unescape
from urllib.parse import quote

import pytest

from services.common.adapters.page_repository import PageRepository
from services.common.adapters.rabbitmq.messaging import open_queue
from services.common.domain.events import parse_notification
from services.common.domain.page import Line, line_id
from services.common.domain.page_request import Cut, parse_request
from services.common.runtime.settings import AmqpSettings
from services.review.routes import page_requests, pages
from tests.support.indexing import open_event_queues
from tests.support.pages import page_file
from tests.support.review import (
    NOW,
    PAGE_KEY,
    PAGE_TEXTS,
    OpenReview,
    Person,
    Site,
    add_page,
    fields_of,
)
from tests.support.waiting import deadline, eventually

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


async def test_line_that_another_person_annotated_meanwhile_is_kept(review: Site) -> None:
    await add_page(review)
    line = f"{review.store.bucket}/lines/1.webp"
    async with review.person("ada") as ada, review.person("bob") as bob:
        hers, his = [line_of(await person.see(PATH), line) for person in (ada, bob)]

        async def save(person: Person, text: str, form: dict[str, str], status: int) -> None:
            fields = form | {"text": text, "quality": "ok", "token": person.token}
            headers = {"HX-Request": "true"}
            async with person.client.post("/image/annotate", data=fields, headers=headers) as sent:
                assert sent.status == status

        await save(ada, "ada's text", hers, 204)
        await save(bob, PAGE_TEXTS[1], his, 409)
        assert (await review.document(line))["annotation"]["text"] == "ada's text"
        await save(bob, "ada's text", his, 204)
        await save(ada, "ada's second text", hers, 204)
        await save(bob, "bob's text", line_of(await bob.see(PATH), line), 204)
    assert (await review.document(line))["annotation"]["by"] == "bob"


def line_of(html: str, line: str) -> dict[str, str]:
    """Return the inputs of a line's form."""
    return fields_of(html.partition(f'name="id" value="{line}"')[2].partition("</form>")[0]) | {
        "id": line
    }


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


async def test_document_shows_how_many_pages_are_rendered(review: Site, ada: Person) -> None:
    await add_page(review, lines=[], rendered=500, unrendered=496)

    for path in (PATH, "/pages"):
        assert ">4 of 500 pages</a>" in await ada.see(path)


async def test_rejected_page_has_a_reason_and_no_picture(review: Site, ada: Person) -> None:
    error = {"code": "no_lines", "detail": "nothing <found>"}
    etag = await add_page(review, status="rejected", error=error, lines=[])

    shown = await ada.see(PATH)
    assert "no line of text was found (no_lines)" in shown
    assert "nothing &lt;found&gt;" in shown
    assert "no line of text was found" in await ada.see("/pages?status=rejected")
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
        await review.database.pages.insert({**page, "document": part, "indexed_at": changed})

    seen, path = [], f"/pages?document={document}"
    while path:
        html = await ada.see(path)
        seen.append(re.findall(r'href="/pages/(\d).webp"', html))
        later = re.search(r'rel="next" class="button" href="([^"]+)"', html)
        path = unescape(later[1]) if later else ""

    assert seen == (
        [["1", "2"], ["3", "4"], ["5"]] if document else [["2", "1"], ["5", "4"], ["3"]]
    )


async def test_line_is_drawn_again_by_one_of_two_people(
    asking: tuple[Site, Callable[[], Awaitable[bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_requests, "WAIT_SECONDS", 90.0)
    review, asked_for = asking
    await review.store.client.create_bucket(Bucket=review.store.bucket)
    etag = await add_page(review, turn=90)
    page_id = f"{review.store.bucket}-pages/{PAGE_KEY}"
    form = {"id": page_id, "etag": etag, "line": "1", "points": "95,185,640,185,640,240,95,240"}
    async with review.person("ada") as ada, review.person("bob") as bob:
        html = await ada.see(PATH)
        assert 'viewBox="0 0 800 1500"' in html
        assert 'transform="matrix(0 1 -1 0 800 0)"' in html
        asked = asyncio.create_task(ada.send("/pages/cut", form))
        body = await asked_for()
        [event], request = parse_notification(body), parse_request(body)
        assert (event.document_id, event.etag, event.sequencer) == (page_id, etag, f"{1:016}")
        assert request is not None
        assert request.cut is not None
        assert (request.cut.line, request.cut.by) == ("1", "ada")
        assert request.cut.quad == (95, 185, 640, 185, 640, 240, 95, 240)
        await cut_as_segmenter(review, page_id, request.cut)

        assert await asked == "The line is cut again."
        assert "cut by ada" in await ada.see(PATH)
        late = await bob.send("/pages/cut", form | {"points": "1,1,9,1,9,9,1,9"}, status=409)
        assert late == "ada has cut this line again meanwhile, and theirs is kept."
        added = form | {"line": "", "points": "96,186,641,186,641,241,96,241"}
        moved = {  # by one pixel: its id stays the same
            "line": line_id(request.cut.quad, 1500, 800),
            "points": "94,185,640,185,640,240,94,240",
        }
        said = {
            await person.send("/pages/cut", form | again, status=409)
            for person, again in ((bob, added), (ada, moved))
        }
        assert said == {"There is a line in just this place; nothing was cut."}
        await bob.send("/pages/cut", form | {"etag": "other"}, status=409)
        await bob.send("/pages/cut", form | {"points": "1,1,2,1,2,2,1,2"}, status=422)
        await bob.send("/pages/turn", form | {"turn": "45"}, status=422)


async def test_page_that_is_turned_back_is_shown_at_once(
    asking: tuple[Site, Callable[[], Awaitable[bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its runs are as many as before; nothing can be cut where it is rejected."""
    monkeypatch.setattr(page_requests, "WAIT_SECONDS", 3600.0)
    review, asked_for = asking
    await review.store.client.create_bucket(Bucket=review.store.bucket)
    etag, repository = await add_page(review, turn=90), PageRepository(review.database.pages)
    form = {"id": f"{review.store.bucket}-pages/{PAGE_KEY}", "etag": etag}
    async with review.person("ada") as ada:
        asked = asyncio.create_task(ada.send("/pages/turn", form | {"turn": "270"}))
        request = parse_request(await asked_for())
        assert request is not None
        assert (request.turn, request.at is None) == (270, False)
        page = await repository.load(form["id"])
        turned = page.having(turn=270, status="rejected", indexed_at=NOW + timedelta(hours=1))
        await repository.save(page, turned)
        async with deadline():
            await asked

        said = await ada.send("/pages/cut", form | {"points": "1,1,9,1,9,9,1,9"}, status=409)
        assert said.startswith("The page has changed since you opened it")


async def cut_as_segmenter(review: Site, page_id: str, cut: Cut) -> None:
    """Put a drawn line into the document of its page."""
    pages = PageRepository(review.database.pages)
    page = await pages.load(page_id)
    new = {"id": line_id(cut.quad, 1500, 800), "quad": cut.quad, "by": cut.by, "at": cut.at}
    new |= {"key": "lines/new.webp", "replaces": (cut.line,)}
    lines = [line for line in page.lines if line.id != cut.line]
    await pages.save(page, page.having(lines=(*lines, Line.model_validate(new))))


@pytest.fixture
async def asking(
    review_with: OpenReview, amqp_settings: AmqpSettings
) -> AsyncIterator[tuple[Site, Callable[[], Awaitable[bytes]]]]:
    """A review page, and a function that takes what it asks of the segmenter."""
    async with (
        open_event_queues(amqp_settings) as queues,
        review_with(queues=queues) as review,
    ):

        async def take() -> bytes | None:
            async with open_queue(amqp_settings, queues.work) as messages:
                async for message in messages:
                    await message.drop()
                    return message.body
            return None

        yield review, partial(eventually, take)
