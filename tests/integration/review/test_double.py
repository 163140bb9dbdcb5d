"""Double reading on the review page: the second person sees no text, a reviewer decides."""

from collections.abc import AsyncIterator

import pytest

from services.common.adapters.image_repository import ImageRepository
from services.common.domain.image_filter import ImageFilter
from services.common.runtime.settings import MongoSettings, S3Settings
from services.quality.suspect_search import find_suspects
from services.quality.suspects import Reason
from tests.support.datasets import answer
from tests.support.review import OpenReview, Person, Site, fields_of, image_of, known
from tests.support.servers import set_environment
from tests.support.waiting import eventually

READ = "le 5 ete 1916"
IMAGE = f"raw/{known(READ, 0)['key']}"
ADAS, BOBS = "le 5 été 1916", "le 5 été 1918"


@pytest.fixture
async def site(
    s3_settings: S3Settings,
    mongo_settings: MongoSettings,
    review_with: OpenReview,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Site]:
    """A review page with an image that two people read; eve and mel decide."""
    set_environment(monkeypatch, s3_settings, mongo_settings)
    async with review_with(
        quality_refresh_seconds=0.2,
        second_share=1.0,
        reviewers="eve, mel",
    ) as site:
        await site.database.create_indexes()
        await site.add(known(READ, 0.1))
        yield site


async def read(person: Person, text: str) -> str:
    """Annotate the image that the queue offers; return the page before."""
    page = await person.see("/queue")
    assert image_of(page) == IMAGE
    assert image_of(await person.do(page, "save", text)) == ""
    return page


async def read_differently(site: Site) -> None:
    async with site.person("ada") as ada, site.person("bob") as bob:
        await read(ada, ADAS)
        page = await read(bob, BOBS)
        assert image_of(await ada.see("/queue")) == ""
    assert ADAS not in page
    assert "Second reading" in page
    assert fields_of(page)["text"] == READ


async def test_second_person_sees_no_text_and_a_reviewer_decides(site: Site) -> None:
    await read_differently(site)
    found = await find_suspects(ImageRepository(site.database.images), ImageFilter(), most=9)
    assert found.counts == {Reason.ANNOTATORS_DIFFER: 1}

    async with site.person("eve") as eve:
        page = await eve.see("/queue?mode=decide")
        assert (image_of(page), ADAS in page, BOBS in page) == (IMAGE, True, True)
        assert image_of(await eve.do(page, "save", BOBS)) == ""
        document = await site.document(IMAGE)

        async def figures() -> bool:
            html = await eve.see("/quality")
            return "pair ada and bob" in html and "double=twice" in html

        await eventually(figures)
        limited = await eve.see("/quality?collection=other")
        assert 'href="/gallery?order=worst&amp;double=twice"' in limited
        french = {"Accept-Language": "fr"}
        async with eve.client.get("/quality", headers=french) as response:
            assert "ada et bob" in await response.text()
        assert BOBS in await eve.see("/gallery?double=decided&reader=bob")
        assert "Nothing found" in await eve.see("/gallery?double=twice&reader=eve")
    double, note = document["double_reading"], document["annotation"]
    assert (double["state"], double["decided"]["by"]) == ("decided", "eve")
    assert [each["text"] for each in double["readings"]] == [ADAS, BOBS]
    assert (note["text"], note["by"]) == (BOBS, "eve")
    told = await answer("report", "--since", "2000-01-01")
    assert told["agreement"]["pair"]["ada and bob"]["same_text"] == 0


async def test_only_a_reviewer_decides(site: Site) -> None:
    await read_differently(site)
    form = {"id": IMAGE, "etag": "e1", "text": ADAS, "quality": "ok"}
    async with site.person("bob") as bob:
        await bob.see("/queue?mode=decide", status=403)
        await bob.send("/image/annotate", form, status=403)
        crafted = {**form, "mode": "suspects", "suspect": ADAS, "action": "save"}
        assert "theirs is kept" in await bob.send("/queue/answer", crafted)
        assert "To decide" not in await bob.see("/queue")
        assert "a reviewer decides" in await bob.see(f"/image?id={IMAGE}")
    assert (await site.document(IMAGE))["double_reading"]["state"] == "different"


async def test_page_of_an_image_takes_a_reading_and_a_decision(site: Site) -> None:
    form = {"id": IMAGE, "etag": "e1", "quality": "ok"}
    async with site.person("ada") as ada, site.person("bob") as bob, site.person("eve") as eve:
        await read(ada, ADAS)
        assert "1 left here" in await bob.see("/queue/progress")
        assert "0 left here" in await ada.see("/queue/progress")
        page = await bob.see(f"/image?id={IMAGE}")
        assert (fields_of(page)["text"], ADAS in page) == (READ, False)
        await bob.send("/image/annotate", {**form, "text": BOBS})
        different = await site.document(IMAGE)
        assert "Saved." in await eve.send("/image/annotate", {**form, "text": ADAS})
        assert (await site.document(IMAGE))["double_reading"]["state"] == "decided"
        await bob.send("/image/annotate", {**form, "text": BOBS}, status=403)
        assert "only a reviewer changes it" in await bob.see(f"/image?id={IMAGE}")
    double, note = different["double_reading"], different["annotation"]
    assert (double["state"], note["text"], note["by"]) == ("different", ADAS, "ada")
    assert [each["text"] for each in double["readings"]] == [ADAS, BOBS]
    assert (await site.document(IMAGE))["annotation"]["text"] == ADAS


async def test_each_reader_takes_back_their_own_reading(site: Site) -> None:
    async with site.person("ada") as ada, site.person("bob") as bob, site.person("eve") as eve:
        await read(ada, ADAS)
        assert "Saved: cut wrong." in await bob.do(await bob.see("/queue"), "cut_wrong")
        assert "<dd>Cut wrong</dd>" in await eve.see("/queue?mode=decide")
        await eve.do(await eve.see("/queue?mode=decide"), "skip")
        progress = await ada.see("/queue/progress")
        assert ("<strong>1</strong> by you" in progress, "1 by bob" in progress) == (True, True)
        again = await ada.do(await ada.see("/queue"), "undo")
        assert (image_of(again), fields_of(again)["text"]) == (IMAGE, ADAS)
        await ada.do(again, "skip")
        again = await bob.do(await bob.see("/queue"), "undo")
    assert (image_of(again), fields_of(again)["text"]) == (IMAGE, READ)


async def test_second_reading_that_is_taken_back_is_read_again(site: Site) -> None:
    async with site.person("ada") as ada, site.person("bob") as bob:
        await read(ada, ADAS)
        await read(bob, BOBS)
        again = await bob.do(await bob.see("/queue"), "undo")
        assert (image_of(again), fields_of(again)["text"]) == (IMAGE, BOBS)
        assert (await site.document(IMAGE))["double_reading"]["state"] == "waiting"
        await bob.do(again, "save", ADAS)
    double = (await site.document(IMAGE))["double_reading"]
    assert (double["state"], [each["by"] for each in double["readings"]]) == (
        *("agreed", ["ada", "bob"]),
    )
