"""The review page's queue, over HTTP: order, leases, keys, undo."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from html import escape, unescape

import pytest

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Collection
from services.common.domain.errors import DatabaseUnavailableError
from services.common.domain.image import MOST_PREDICTIONS
from services.common.domain.records import to_milliseconds
from tests.support.review import NOW, OpenReview, Person, Site, fields_of, image_of, known
from tests.support.waiting import eventually


@pytest.fixture
async def site(review_with: OpenReview) -> AsyncIterator[Site]:
    async with review_with() as site:
        await site.database.create_indexes()
        yield site


async def test_queue_begins_with_disagreement_and_the_worst_score(site: Site) -> None:
    good, bad, worst = known("good", 0.9), known("bad", 0.4), known("worst", 0.02)
    disputed = known("disputed", 0.8, disagreement=0.2)
    await site.add(good, bad, worst, disputed)
    tasks = []
    async with site.person() as ada:
        tasks.append(await ada.see("/queue"))
        while image_of(tasks[-1]):
            tasks.append(await ada.do(tasks[-1], "save"))
    expected = [each["_id"] for each in (disputed, worst, bad, good)]
    assert [image_of(each) for each in tasks] == [*expected, ""]
    assert fields_of(tasks[0])["text"] == "disputed"


async def test_queue_begins_with_a_source_that_has_no_annotation(site: Site) -> None:
    old, new = ([{"kind": "folder", "group": name}] for name in ("old", "new"))
    note = {"text": "text", "quality": "ok", "by": "ada", "at": NOW}
    seen = [known(f"{number}", 0.5, sources=old, annotation=note) for number in range(4)]
    first, worst = known("first", 0.2, sources=new), known("worst", 0.1, sources=old)
    await site.add(*seen, worst, first)
    async with site.person() as ada:

        async def task() -> str:
            page = await ada.see("/queue?mode=teaching")
            return page if image_of(page) else ""

        shown = await eventually(task)
        later = await ada.do(shown, "save")

    assert [image_of(each) for each in (shown, later)] == [first["_id"], worst["_id"]]


async def test_next_image_is_found_while_a_person_reads(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.review.search_limits.FIRST_SECONDS", -1.0)
    first, second, third = (
        known(text, 0.5, disagreement=disagreement)
        for text, disagreement in (("first", 1.0), ("second", 0.3), ("third", 0.1))
    )
    await site.add(first, second, third)
    async with site.person() as ada, site.person("bob") as bob:
        html = await ada.see("/queue?mode=disagreement")
        assert (image_of(html), fields_of(html)["next"]) == (first["_id"], "")
        asked = re.search(r'hx-get="(/queue/next[^"]*)"', html)
        assert asked is not None
        ahead = await ada.open(unescape(asked[1]))
        assert fields_of(ahead)["next"] == second["_id"]
        assert 'id="ahead" src="/content?' in ahead
        assert image_of(await bob.see("/queue?wait=true&mode=disagreement")) == third["_id"]

        form = fields_of(html) | fields_of(ahead) | {"action": "save", "text": "x"}
        assert image_of(await ada.send("/queue/answer", form)) == second["_id"]


async def test_annotation_says_what_by_whom_and_when(site: Site) -> None:
    await site.add(known("hel1o  wor1d", 0.1))
    async with site.person("Grace Hopper") as grace:
        task = await grace.see("/queue")
        await grace.do(task, "save", "  hello   world ")
    annotation = (await site.document(image_of(task)))["annotation"]
    assert annotation["text"] == "hello world"
    assert annotation["quality"] == "ok"
    assert annotation["by"] == "Grace Hopper"
    assert annotation["at"].tzinfo is not None


async def test_prediction_with_control_characters_can_be_accepted(site: Site) -> None:
    await site.add(known("a\x01b\u200dc\n", 0.1))
    async with site.person() as ada:
        task = await ada.see("/queue")
        await ada.do(task, "save")
    assert (await site.document(image_of(task)))["annotation"]["text"] == "a b\u200dc"


async def test_image_that_many_models_have_read_can_be_annotated(site: Site) -> None:
    image = known("0 " + 60 * "\u8aad", 0.1)
    read = image["prediction"]
    image["history"] = [
        {**read, "text": f"{number} {read['text']}", "model_version": f"{number}"}
        for number in range(2, MOST_PREDICTIONS)
    ]
    await site.add(image)
    async with site.person() as ada:
        html = await ada.see("/queue")
        shown = re.findall(r'name="shown" value="([^"]*)"', html)
        assert len(shown) == MOST_PREDICTIONS - 1
        form = [("shown", each) for each in shown] + [("action", "save")]
        form += [(name, each) for name, each in fields_of(html).items() if name != "shown"]
        async with ada.client.post("/queue/answer", data=form) as response:
            assert response.status == 200
    assert (await site.document(image["_id"]))["annotation"]["how"] == "accepted"


async def test_prediction_that_is_saved_as_shown_is_only_accepted(site: Site) -> None:
    await site.add(known("right", 0.1), known("wrong", 0.2), known("", 0.3, key="blank.png"))
    async with site.person() as ada:
        first = await ada.see("/queue")
        second = await ada.do(first, "save")
        newer = {**known("better", 0.9)["prediction"], "model_version": "2"}
        history = [(await site.document(image_of(second)))["prediction"]]
        changed = {"prediction": newer, "history": history}
        await site.database.images.update_one({"_id": image_of(second)}, {"$set": changed})
        third = await ada.do(second, "save", "better")
        await ada.do(third, "save", "from nothing")
    hows = [(await site.document(image_of(each)))["annotation"] for each in (first, second, third)]
    assert [each["how"] for each in hows] == ["accepted", "corrected", "transcribed"]


@pytest.mark.parametrize("quality", ["unreadable", "not_a_line", "cut_wrong"])
async def test_image_without_a_text_keeps_none(site: Site, quality: str) -> None:
    await site.add(known("misread", 0.1))
    async with site.person() as ada:
        task = await ada.see("/queue")
        await ada.do(task, quality)
    annotation = (await site.document(image_of(task)))["annotation"]
    assert (annotation["quality"], annotation["text"]) == (quality, "")


async def test_what_is_refused_stays_with_what_was_typed(site: Site) -> None:
    await site.add(known("one", 0.1), known("two", 0.2))
    async with site.person() as ada:
        task = await ada.see("/queue")
        again = await ada.do(task, "save", "   ")
    assert image_of(again) == image_of(task)
    assert "Not saved" in again
    assert (await site.document(image_of(task)))["annotation"] is None


async def test_page_without_scripts_says_what_happened(site: Site) -> None:
    await site.add(known("one", 0.1), known("two", 0.2))

    async def press(html: str, action: str, text: str) -> tuple[str, str]:
        fields = {**fields_of(html), "action": action, "text": text}
        page = await send_without_scripts(ada, fields)
        return page, unescape(re.findall(r'<p id="said"[^>]*>([^<]*)</p>', page)[0])

    async with site.person() as ada:
        first = await ada.see("/queue")
        refused, why = await press(first, "save", "  ")
        second, saved = await press(refused, "save", "uno")
        again, undone = await press(second, "undo", "")
        await ada.see("/queue/answer")

    assert why.startswith("Not saved: ")
    assert saved == "Saved, as you typed it: \u201cuno\u201d."
    assert undone == "Undone: the image is as it was before."
    assert second.count('id="said"') == 1
    assert (image_of(again), fields_of(again)["text"]) == (image_of(first), "uno")


async def send_without_scripts(ada: Person, fields: dict[str, str]) -> str:
    """Send the form of the queue as a browser without scripts; return the page."""
    async with ada.client.post("/queue/answer", data=fields) as response:
        page = await response.text()
        assert response.status == 200, page
    return page


async def save_two(ada: Person) -> tuple[str, str, str]:
    """Save ``uno`` and ``due``; return the pages of both images, and of the next one."""
    first = await ada.see("/queue")
    second = await ada.do(first, "save", "uno")
    return first, second, await ada.do(second, "save", "due")


async def test_reload_without_scripts_undoes_nothing_more(site: Site) -> None:
    await site.add(known("one", 0.1), known("two", 0.2), known("three", 0.3))
    async with site.person() as ada:
        first, second, third = await save_two(ada)
        form = {**fields_of(third), "action": "undo"}
        # A browser sends the form again
        pages = [await send_without_scripts(ada, form) for _ in range(2)]
        kept = await site.document(image_of(first))
        back = await ada.do(pages[-1], "undo")

    assert kept["annotation"]["text"] == "uno"
    for page in pages:
        assert (image_of(page), fields_of(page)["text"]) == (image_of(second), "due")
    assert image_of(back) == image_of(first)


async def test_double_click_without_scripts_undoes_once(site: Site) -> None:
    await site.add(known("one", 0.1), known("two", 0.2), known("three", 0.3))
    async with site.person() as ada:
        _, second, third = await save_two(ada)
        form = {**fields_of(third), "action": "undo"}
        pages = await asyncio.gather(*(send_without_scripts(ada, form) for _ in range(4)))
        nothing = await ada.do(await ada.do(pages[0], "undo"), "undo")

    # A browser shows only the last answer
    assert [image_of(page) for page in pages] == 4 * [image_of(second)]
    assert "Nothing to undo" in nothing


async def test_undo_that_failed_can_be_repeated(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page stays as it is after an error, so the same form is sent."""
    await site.add(known("one", 0.1), known("two", 0.2), known("three", 0.3))
    async with site.person() as ada:
        first, second, third = await save_two(ada)
        fields = {**fields_of(third), "action": "undo"}
        for name in ("revert", "load"):  # MongoDB fails before or after the change
            with monkeypatch.context() as patched:
                patched.setattr(ImageRepository, name, fail)
                await ada.send("/queue/answer", fields, status=503)
        back = await ada.send("/queue/answer", fields)

    assert (image_of(back), fields_of(back)["text"]) == (image_of(second), "due")
    assert (await site.document(image_of(second)))["annotation"] is None
    assert (await site.document(image_of(first)))["annotation"]["text"] == "uno"


async def test_undo_passes_over_an_annotation_that_was_replaced(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Collection, "delete_many", fail)  # the page's user may delete nothing here
    await site.add(*(known(each, 0.1) for each in ("one", "two", "three", "four")))
    async with site.person() as ada:
        pages = [await ada.see("/queue")]
        for text in ("uno", "due", "quattro"):
            pages.append(await ada.do(pages[-1], "save", text))
        for page in pages[1:3]:
            change = {"$set": {"annotation.by": "bob", "annotation.text": "other"}}
            await site.database.images.update_one({"_id": image_of(page)}, change)
        back = await ada.do(pages[-1], "undo")
        again = await ada.send("/queue/answer", {**fields_of(pages[-1]), "action": "undo"})
        nothing = await ada.do(back, "undo")

    for page in (back, again):
        assert (image_of(page), fields_of(page)["text"]) == (image_of(pages[0]), "uno")
    assert "Nothing to undo" in nothing
    for page in pages[1:3]:
        assert (await site.document(image_of(page)))["annotation"]["text"] == "other"


async def fail(*_: object, **__: object) -> None:
    raise DatabaseUnavailableError("no primary")


async def test_address_of_an_answer_keeps_the_filters(site: Site) -> None:
    await site.add(*(known(each, 0.1, sources=[{"collection": "a&b"}]) for each in ("one", "two")))
    place = "/queue?mode=random&collection=a%26b&where=metadata.x%3D1&where=metadata.y%3D2"
    async with site.person() as ada:
        task = await ada.see("/queue?collection=a%26b&mode=random")
        action = unescape(re.findall(r'<form id="answer"[^>]* action="([^"]*)"', task)[0])
        form = {**fields_of(task), "action": "skip"}
        async with ada.client.post(action, data=form) as response:
            shown = await response.text()
        async with ada.client.get(action, allow_redirects=False) as response:
            to = response.headers["Location"]
        given = place.replace("/queue", "/queue/answer")
        async with ada.client.get(given, allow_redirects=False) as response:
            also = response.headers["Location"]

    assert action == "/queue/answer?collection=a%26b&mode=random"
    assert to == "/queue?collection=a%26b&mode=random"
    assert sorted(also.partition("?")[2].split("&")) == sorted(place.partition("?")[2].split("&"))
    # The switch of languages leads to the queue, too
    assert f'name="then" value="{escape(to)}"' in shown


async def test_twenty_people_at_once_get_twenty_pairs_of_images(site: Site) -> None:
    await site.add(*(known(f"line {number}", 0.3) for number in range(45)))
    async with AsyncExitStack() as stack:
        people = [
            await stack.enter_async_context(site.person(f"person {number}")) for number in range(20)
        ]
        pages = await asyncio.gather(*(person.see("/queue") for person in people))
        seen = [image_of(page) for page in pages] + [fields_of(page)["next"] for page in pages]
    assert len(seen) == 40
    assert all(seen)
    assert len(set(seen)) == 40


async def test_skipped_image_is_another_persons_and_not_mine_again(site: Site) -> None:
    await site.add(known("hard", 0.1))
    async with site.person("ada") as ada, site.person("bob") as bob:
        task = await ada.see("/queue")
        assert image_of(await bob.see("/queue")) == ""
        assert image_of(await ada.do(task, "skip")) == ""
        assert image_of(await ada.see("/queue")) == ""
        assert image_of(await bob.see("/queue")) == image_of(task)


async def test_lease_that_gives_no_sign_ends(review_with: OpenReview) -> None:
    async with (
        review_with(lease_seconds=1234) as site,
        site.person("ada") as ada,
        site.person("bob") as bob,
    ):
        await site.add(known("left alone", 0.1))
        before = to_milliseconds(datetime.now(tz=UTC))
        task = await ada.see("/queue")
        after = datetime.now(tz=UTC)
        assert image_of(await bob.see("/queue")) == ""
        lease = await site.database.review_leases.find_one({"_id": image_of(task)})
        assert lease is not None
        assert before <= lease["until"] - timedelta(seconds=1234) <= after
        await site.database.review_leases.update_many({}, {"$set": {"until": before}})
        assert image_of(await bob.see("/queue")) == image_of(task)
        late = await ada.do(task, "save", "late but right")
        assert image_of(late) == ""
        assert (await site.document(image_of(task)))["annotation"]["by"] == "ada"


async def test_second_answer_to_one_image_does_not_replace_the_first(site: Site) -> None:
    await site.add(known("both", 0.1))
    async with site.person("ada") as ada, site.person("bob") as bob:
        task = await ada.see("/queue")
        await bob.see("/queue")
        await ada.do(task, "save", "ada's")
        fields = {**fields_of(task), "action": "save", "text": "bob's"}
        said = await bob.send("/queue/answer", {**fields, "token": bob.token})
    assert "theirs is kept" in said
    assert (await site.document(image_of(task)))["annotation"]["text"] == "ada's"


async def test_image_annotated_since_the_search_is_not_shown(site: Site) -> None:
    note = {"text": "theirs", "quality": "ok", "by": "bob", "at": NOW}
    done = known("done", 0.2, annotation=note)
    await site.add(known("one", 0.1), done, known("three", 0.3))
    async with site.person() as ada:
        task = await ada.see("/queue")
        fields = {**fields_of(task), "next": done["_id"], "action": "save"}
        after = await ada.send("/queue/answer", fields)
    assert fields_of(after)["text"] == "three"


async def test_undo_takes_the_last_annotations_back_one_by_one(site: Site) -> None:
    await site.add(known("one", 0.1), known("two", 0.2), known("three", 0.3))
    async with site.person() as ada:
        first = await ada.see("/queue")
        second = await ada.do(first, "save", "first said")
        third = await ada.do(second, "unreadable")
        back = await ada.do(third, "undo")
        assert image_of(back) == image_of(second)
        assert fields_of(back)["next"] == image_of(third)
        back = await ada.do(back, "undo")
        assert image_of(back) == image_of(first)
        assert "Nothing to undo" in await ada.do(back, "undo")
    document = await site.document(image_of(first))
    assert document["annotation"] is None
    assert [each["text"] for each in document["annotation_history"]] == ["first said"]
    assert "undone_at" in document["annotation_history"][0]


async def test_correction_keeps_what_came_with_a_list(site: Site) -> None:
    before = {
        "text": "from a list",
        "quality": "ok",
        "by": "batch:b1",
        "at": known("", 0)["stored_at"],
    }
    image = known("one", 0.1, annotation=before)
    await site.add(image)
    async with site.person() as ada:
        await ada.send(
            "/image/annotate",
            {"id": image["_id"], "etag": "e1", "text": "corrected", "quality": "ok"},
        )
        corrected = await site.document(image["_id"])
        assert corrected["annotation"]["text"] == "corrected"
        assert corrected["annotation_history"] == [before]


async def test_disagreement_mode_shows_differently_read_images(site: Site) -> None:
    same = known("same", 0.1, disagreement=None)
    close = known("close", 0.1, disagreement=0.2)
    nothing_in_common = known("apart", 0.9, disagreement=1.0)
    await site.add(same, close, nothing_in_common, known("never read again", 0.05))
    async with site.person() as ada:
        task = await ada.see("/queue?mode=disagreement")
    assert image_of(task) == nothing_in_common["_id"]
    assert fields_of(task)["next"] == close["_id"]


async def test_disagreement_ends_behind_the_last_image(site: Site) -> None:
    await site.add(known("same", 0.1, disagreement=None), known("close", 0.1, disagreement=0.001))
    async with site.person() as ada:
        task = await ada.see("/queue?mode=disagreement")
        assert fields_of(task)["next"] == ""
        assert image_of(await ada.do(task, "save")) == ""


async def test_random_order_reaches_every_image(site: Site) -> None:
    await site.add(*(known(f"line {number}", number / 10) for number in range(8)))
    seen = set()
    async with site.person() as ada:
        task = await ada.see("/queue?mode=random")
        while image := image_of(task):
            seen.add(image)
            task = await ada.do(task, "save")
    assert len(seen) == 8


async def test_queue_of_a_batch_or_a_host_has_no_others(site: Site) -> None:
    def source(host: str, batch: str) -> dict[str, object]:
        url = f"https://{host}/a.png"
        return {"sources": [{"url": url, "batch_id": batch, "collection": f"of {batch}"}]}

    one = known("one", 0.5, **source("one.example", "b1"))
    two = known("two", 0.4, **source("two.example", "b2"))
    evil = known("three", 0.1, **source("evil.example/one.example", "b3"))
    await site.add(one, two, evil)
    async with site.person() as ada:
        by_host = await ada.see("/queue?host=one.example")
        assert (image_of(by_host), fields_of(by_host)["next"]) == (one["_id"], "")
    async with site.person() as bob:
        assert image_of(await bob.see("/queue?batch=b2")) == two["_id"]
        task = await bob.see("/queue?collection=of+b3&where=")
        assert image_of(task) == evil["_id"]
        task = await bob.do(task, "save", "three")
        assert fields_of(task)["collection"] == "of b3"
        assert "Nothing left to annotate" in task


async def test_page_keeps_its_image_before_a_short_lease_ends(review_with: OpenReview) -> None:
    async with review_with(lease_seconds=8) as site:
        await site.add(known("one", 0.1))
        async with site.person() as ada:
            page = await ada.see("/queue")
    assert 'hx-trigger="every 3000ms"' in page


async def test_search_that_takes_long_says_so_and_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIRST_SECONDS", "SEARCH_SECONDS"):
        monkeypatch.setattr(f"services.review.search_limits.{name}", -1.0)
    sources = [{"url": "https://far.example/a.png", "batch_id": "b1"}]
    far, other = known("far", 0.03, sources=sources), known("other", 0.9)
    await site.add(far, other)
    pages = 0
    async with site.person() as ada:
        task = await ada.see("/queue?host=far.example")
        while (link := re.search('rel="next" href="([^"]+)"', task)) and pages < 10:
            assert "None found so far" in task
            task, pages = await ada.see(unescape(link[1])), pages + 1
        assert image_of(task) == far["_id"]
        assert fields_of(task)["cursor"]
        await ada.see("/queue?cursor=x", status=422)
    assert pages


async def test_first_answer_never_offers_what_comes_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the second pass would begin, by score, while the first is under way."""
    monkeypatch.setattr("services.review.search_limits.FIRST_SECONDS", -1.0)
    await site.add(known("disputed", 0.9, disagreement=0.1), known("other", 0.001))
    async with site.person() as ada:
        first = await ada.open("/queue")
        assert "Searching\u2026" in first
        assert "other" not in first
        assert image_of(await ada.see("/queue")) == known("disputed", 0.9)["_id"]
