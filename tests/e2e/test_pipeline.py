"""The main job, on real servers and real processes: from a list of URLs to documents."""

import signal
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import uuid4

from aiohttp import FormData

from infra.local.site import FOLDER
from services.common.adapters.object_store import sibling
from tests.support.images import line_image
from tests.support.pages import LEFT_LINES, RIGHT_LINES, page_file
from tests.support.pipeline import Client, Pipeline
from tests.support.web import WebSite


def new_line(text: str) -> bytes:
    """Draw a line whose bytes no other test has: the key is made from them."""
    return line_image(f"{text} {uuid4().hex[:6]}")


async def test_url_becomes_a_document_with_its_text_source_and_times(
    client: Client, site: WebSite
) -> None:
    # The font draws the same bytes each time: what other tests add differs, this one is exact
    image = line_image("Wikipedia", font_size=41)
    site.add_body("/word one.png", image)
    url = site.url("/word%20one.png?size=1&x=%C3%A9")
    before = datetime.now(tz=UTC) - timedelta(seconds=2)

    batch_id = await client.submit({"url": url, "annotation": "Wikipedia"})
    counts = await client.completed(batch_id)
    digest = sha256(image).hexdigest()
    key = f"fetched/{digest[:2]}/{digest}.png"
    document = await client.document({"_id": f"raw/{key}"})

    assert counts["stored"] == 1
    [item] = await client.items(batch_id)
    assert (item["outcome"], item["key"]) == ("stored", key)
    assert document["status"] == "predicted"
    assert document["prediction"]["text"] == "Wikipedia" == document["annotation"]["text"]
    assert document["prediction"]["score"] > 0.8
    assert document["prediction"]["engine"] == "rapidocr"
    assert document["sha256"] == digest
    assert (document["bucket"], document["key"]) == ("raw", key)
    [source] = document["sources"]
    assert (source["url"], source["batch_id"]) == (url, batch_id)
    now = datetime.now(tz=UTC) + timedelta(seconds=1)
    assert before < source["at"] <= document["stored_at"] + timedelta(seconds=1)
    assert before < document["stored_at"] < now
    assert before < document["prediction"]["predicted_at"] <= document["indexed_at"] < now


async def test_upload_straight_to_the_bucket_takes_the_same_path(client: Client) -> None:
    key = f"scans/{uuid4().hex} é.png"
    await client.store.write(key, new_line("upload"), content_type="image/png", metadata={})

    document = await client.document({"key": key})
    assert document["prediction"]["text"].startswith("upload")
    (source,) = document["sources"]
    assert (source["kind"], source["collection"]) == ("console", "scans")
    assert document["annotation"] is None
    assert document["uploaded_by"]


async def test_page_in_its_bucket_becomes_read_lines(client: Client) -> None:
    key = f"scans/{uuid4().hex}.png"
    pages = sibling(client.store, "pages")
    await pages.write(key, page_file(), content_type="image/png", metadata={})

    lines = len(LEFT_LINES) + len(RIGHT_LINES)
    of_page = {"page.id": f"pages/{key}", "prediction.text": {"$type": "string"}}
    await client.count_reaches(lines, of_page)
    read = [each async for each in client.database.images.find(of_page, sort=[("page.order", 1)])]
    await pages.delete(key)

    assert [each["prediction"]["text"] for each in read] == [*LEFT_LINES, *RIGHT_LINES]
    assert {each["sources"][0]["kind"] for each in read} == {"page"}
    await client.count_reaches(lines, {"page.id": f"pages/{key}", "status": "removed"})


async def test_same_list_again_stores_nothing_twice(
    client: Client, site: WebSite, pipeline: Pipeline
) -> None:
    urls = [site.add_body(f"/twice-{n}.png", new_line(f"twice {n}")) for n in range(5)]
    first = await client.submit(*({"url": url} for url in urls))
    await client.completed(first)
    await client.count_reaches(5, {"sources.url": {"$in": urls}})
    query = {"sources.url": {"$in": urls}}
    before = {each["_id"]: each async for each in client.database.images.find(query)}

    second = await client.submit(*({"url": url} for url in urls))
    counts = await client.completed(second)

    assert (counts["unchanged"], counts["stored"]) == (5, 0)
    await client.count_reaches(5, {"sources.batch_id": second})
    await client.count_reaches(5, {"sources.batch_id": first})
    after = {each["_id"]: each async for each in client.database.images.find(query)}
    for name in ("prediction", "etag", "history"):
        assert [after[each].get(name) for each in before] == [
            each.get(name) for each in before.values()
        ]
    assert pipeline.events == []  # nothing died meanwhile


async def test_each_bad_sample_has_its_reason(client: Client, site: WebSite) -> None:
    page = site.add_body("/page.png", (FOLDER / "page-web.png").read_bytes())
    cut = site.add_body("/cut.jpg", (FOLDER / "tronquee.jpg").read_bytes())
    missing = site.url("/no-such.png")

    batch_id = await client.submit(*({"url": url} for url in (page, cut, missing)))
    counts = await client.completed(batch_id)

    codes = {item["url"]: item["code"] for item in await client.items(batch_id)}
    assert codes[page] == "not_an_image"
    assert codes[missing] == "not_found"
    assert (counts["stored"], counts["failed"]) == (1, 2)
    document = await client.document({"sources.url": cut})
    assert document["status"] == "rejected"
    assert document["error"]["code"] == "undecodable_image"


async def test_malformed_list_is_refused_with_line_numbers(client: Client) -> None:
    form = FormData()
    body = "# comment\nnot a url\nftp://example.test/a.png\n"
    form.add_field("file", body, filename="list.txt", content_type="text/plain")

    async with client.fetcher.post("/batches", data=form) as response:
        problem = await response.json()

    assert response.status == 422
    assert response.content_type == "application/problem+json"
    assert [line["line"] for line in problem["rejected"]] == [2, 3]


async def test_killed_consumer_loses_nothing_and_doubles_nothing(
    client: Client, pipeline: Pipeline
) -> None:
    folder = f"killed-{uuid4().hex}"
    for number in range(50):
        await client.store.write(
            f"{folder}/{number}.png",
            new_line(f"line {number}"),
            content_type="image/png",
            metadata={},
        )
    ours = {"key": {"$regex": f"^{folder}/"}}
    await client.count_reaches(3, ours)  # it is at work, and far from done
    pipeline.signal("consumer", signal.SIGKILL)

    await client.count_reaches(50, {**ours, "status": "predicted"})

    assert await client.database.images.count(ours) == 50
    assert any("consumer was killed" in event for event in pipeline.events)
    pipeline.events.clear()
