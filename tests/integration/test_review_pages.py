"""The review page's other pages, over HTTP: who may, what is escaped, what is found."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from html import unescape
from io import BytesIO

import pytest
from aiohttp import ClientSession, FormData
from PIL import Image
from yarl import URL

from services.common.index import Document
from services.common.settings import AmqpSettings, MongoSettings, S3Settings
from services.common.windows import MOST
from services.review.guard import MAX_FORM_BYTES
from services.review.main import WRONG_PASSWORDS_PER_MINUTE
from tests.support.fetcher import open_surroundings, running_fetcher
from tests.support.images import encode, line_image
from tests.support.review import NOW, Person, Site, fields_of, known, open_review
from tests.support.waiting import eventually

pytestmark = pytest.mark.integration

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 'jin' ~ 'ja' }}"
HOSTILE_KEY = "../..//<b>%2e%2e\"'?&#x=é\u202e.png"
PASSWORD = "right horse"


@pytest.fixture
async def site(
    s3_settings: S3Settings, mongo_settings: MongoSettings, amqp_settings: AmqpSettings
) -> AsyncIterator[Site]:
    async with open_review(s3_settings, mongo_settings, amqp_settings) as site:
        await site.store.client.create_bucket(Bucket=site.store.bucket)
        await site.index.create_indexes()
        yield site


@pytest.fixture
async def ada(site: Site) -> AsyncIterator[Person]:
    async with site.person() as person:
        yield person


async def test_nothing_is_shown_without_a_login(site: Site) -> None:
    async with ClientSession(site.url) as client:
        for path in (
            "/",
            "/queue",
            "/gallery?q=a",
            "/image?id=a",
            "/content?id=a&etag=b",
            "/batches",
        ):
            async with client.get(path, allow_redirects=False) as response:
                assert response.status == 303
                assert response.headers["Location"].startswith("/login?then=")
        async with client.post("/queue/answer", data={"action": "save"}) as response:
            assert "/login" in str(response.url)
        for path in ("/livez", "/readyz", "/metrics"):
            async with client.get(path) as response:
                assert response.status == 200


async def test_wrong_password_is_refused(
    s3_settings: S3Settings, mongo_settings: MongoSettings, amqp_settings: AmqpSettings
) -> None:
    async with open_review(
        s3_settings, mongo_settings, amqp_settings, login_password=PASSWORD
    ) as site:
        async with ClientSession(site.url) as client:
            form = {"name": "ada", "password": "wrong", "then": "/queue"}
            async with client.post("/login", data=form) as response:
                assert response.status == 403
                assert "Set-Cookie" not in response.headers
        async with site.person(password=PASSWORD) as ada:
            await ada.see("/queue")


async def test_few_of_many_passwords_that_are_tried_at_once_are_looked_at(
    s3_settings: S3Settings, mongo_settings: MongoSettings, amqp_settings: AmqpSettings
) -> None:
    async with (
        open_review(s3_settings, mongo_settings, amqp_settings, login_password=PASSWORD) as site,
        ClientSession(site.url) as client,
    ):

        async def attempt(password: str) -> int:
            form = {"name": "eve", "password": password}
            async with client.post("/login", data=form, allow_redirects=False) as response:
                return response.status

        answers = await asyncio.gather(*(attempt(f"guess {number}") for number in range(40)))
        assert answers.count(403) == WRONG_PASSWORDS_PER_MINUTE
        assert answers.count(429) == 40 - WRONG_PASSWORDS_PER_MINUTE
        assert await attempt(PASSWORD) == 429


async def test_large_form_is_read_from_nobody_but_who_submits(site: Site, ada: Person) -> None:
    form = {"name": "ada", "password": "x" * MAX_FORM_BYTES}
    async with ClientSession(site.url) as client, client.post("/login", data=form) as response:
        assert response.status == 413
    await ada.see("/gallery")
    for path, status in {"/image/annotate": 413, "/queue/answer": 413, "/submit": 422}.items():
        files = FormData({"token": ada.token})
        files.add_field("text", bytes(MAX_FORM_BYTES), filename="")
        async with ada.client.post(path, data=files) as response:
            assert response.status == status, path


@pytest.mark.parametrize("cookie", ["", "a.b", "WyJhIiwgImIiLCA5ZTk5XQ==.0000", "é.é"])
async def test_made_up_cookie_is_nobody(site: Site, cookie: str) -> None:
    headers = {"Cookie": f"docreco_review={cookie}"}
    async with (
        ClientSession(site.url, headers=headers) as client,
        client.get("/queue", allow_redirects=False) as response,
    ):
        assert response.status == 303


@pytest.mark.parametrize("then", ["//evil.example", "https://evil.example", "/\\evil.example"])
async def test_login_leads_nowhere_else(site: Site, then: str) -> None:
    async with ClientSession(site.url) as client:
        form = {"name": "ada", "then": then}
        async with client.post("/login", data=form, allow_redirects=False) as response:
            assert response.headers["Location"] == "/queue"


async def test_form_without_its_token_is_refused(site: Site, ada: Person) -> None:
    image = known("one", 0.1)
    await site.add(image)
    await ada.see("/queue")
    for token in ("", "x", "0" * 64):
        fields = {"token": token, "id": image["_id"], "action": "save", "text": "forged"}
        assert "wrong_token" in await ada.send("/queue/answer", fields, status=403)
    assert (await site.document(image["_id"]))["annotation"] is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_form_from_another_site_is_refused(
    site: Site, ada: Person, headers: dict[str, str]
) -> None:
    await site.add(known("one", 0.1))
    task = await ada.see("/queue")
    form = {**fields_of(task), "action": "save"}
    async with ada.client.post("/queue/answer", data=form, headers=headers) as response:
        assert response.status == 403


async def test_another_host_name_is_refused(ada: Person) -> None:
    headers = {"Host": "evil.example"}
    async with ada.client.get("/queue", headers=headers) as response:
        assert response.status == 421


async def test_every_page_carries_the_strict_headers(ada: Person) -> None:
    for path in ("/queue", "/gallery", "/quality", "/login", "/static/review.js", "/none"):
        async with ada.client.get(path) as response:
            policy = response.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
            assert "unsafe" not in policy
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            html = await response.text()
        assert "<style" not in html
        assert " style=" not in html
        assert "onclick" not in html


async def test_hostile_texts_are_only_text(site: Site, ada: Person) -> None:
    image = known(
        HOSTILE,
        0.1,
        key=HOSTILE_KEY,
        sources=[
            {"url": "javascript:alert(1)", "batch_id": HOSTILE, "fetched_at": None},
            {"url": 'https://h.example/"><script>', "batch_id": None, "fetched_at": None},
        ],
        history=[{"text": HOSTILE, "score": 0.5, "engine": HOSTILE, "model_version": HOSTILE}],
        annotation_history=[{"text": HOSTILE, "by": HOSTILE, "quality": "ok", "at": NOW}],
    )
    await site.add(image)
    pages = [await ada.see("/queue"), await ada.see("/gallery")]
    async with ada.client.get("/image", params={"id": image["_id"]}) as response:
        assert response.status == 200
        pages.append(await response.text())
    pages.append(await ada.see("/gallery?q=%3Cscript%3E&host=%22%3E%3Cscript%3E"))
    pages.append(await ada.send("/queue/answer", {"action": HOSTILE}, status=422))
    for html in pages:
        assert "<script>" not in html
        assert "<img src=x" not in html
        assert "jinja" not in html
        assert 'href="javascript' not in html
    assert fields_of(pages[0])["text"] == HOSTILE
    assert fields_of(pages[0])["id"] == image["_id"]


async def test_hostile_addresses_are_refused_as_a_page(ada: Person) -> None:
    for path in (
        *("/image?id=", "/image?id=no/such", "/content?id=..%2f..%2fetc&etag=e", "/image", "/none"),
        *("/gallery?cursor=x", "/gallery?low=2", "/gallery?order=up", "/queue?mode=$where"),
        *("/gallery?cursor=WzFlOTk5LCBudWxsXQ==", "/batches/a%20b", "/image?id[$ne]=1"),
        "/gallery?cursor=WyJhIl0=&order=worst",
    ):
        async with ada.client.get(path) as response:
            assert response.status in {404, 422}, path
            assert response.headers["Content-Type"].startswith("text/html")
            assert "That did not work" in await response.text()


async def test_text_search_takes_every_sign_as_it_is(site: Site, ada: Person) -> None:
    await site.add(known("a.b (c) [d] $1", 0.5), known("axb", 0.4), known("Été à Nice", 0.3))
    found = await ada.see("/gallery?q=A.B+%28c")
    assert "a.b (c)" in found
    assert "axb" not in found
    assert "Nice" in await ada.see("/gallery?q=nice&order=worst")
    assert "Nothing found" in await ada.see("/gallery?q=%00.*")
    assert "axb" in await ada.see("/gallery?q=axb&search=prediction.text&order=best")


async def test_filters_leave_out_what_does_not_meet_them(site: Site, ada: Person) -> None:
    note = {"text": "Right", "quality": "ok", "by": "bob", "at": NOW}
    await site.add(
        known("low", 0.1, annotation=note),
        known("middle", 0.5, sources=[{"url": "http://h.example:8080/a", "batch_id": "b1"}]),
        known("high", 0.9),
        known("bad", 0.0, status="rejected", prediction=None, error={"code": "undecodable_image"}),
    )
    for query, expected in {
        "low=0.4&high=0.6": {"middle"},
        "order=worst&low=0.4": {"middle", "high"},
        "order=best&high=0.4": {"low"},
        "status=rejected": {"undecodable_image"},
        "annotated=yes": {"low"},
        "annotated=no&status=predicted": {"middle", "high"},
        "annotated=unreadable": set(),
        "host=h.example": {"middle"},
        "host=example": set(),
        "batch=b1": {"middle"},
        "q=right&search=annotation.text": {"low"},
    }.items():
        html = await ada.see(f"/gallery?{query}")
        cards = html.partition('class="cards"')[2].partition("</ul>")[0]
        found = {word for word in ("low", "middle", "high", "undecodable_image") if word in cards}
        assert found == expected, query


@pytest.mark.parametrize("order", ["newest", "worst", "best"])
async def test_paging_shows_every_image_once(site: Site, ada: Person, order: str) -> None:
    count = MOST + 40
    documents = [
        known(f"line-{number:03}-", 0.0 if number < MOST + 10 else number / count / 2)
        for number in range(count)
    ]
    for number, document in enumerate(documents):
        document["indexed_at"] = NOW - timedelta(hours=number // (MOST + 10))
    await site.index.images.insert_missing(documents)
    seen: list[str] = []
    path: str | None = f"/gallery?order={order}"
    while path:
        html = await ada.see(path)
        seen += [part.partition("</span>")[0] for part in html.split('class="read">')[1:]]
        after = html.partition('rel="next"')[2].partition('href="')[2].partition('"')[0]
        path = after.replace("&amp;", "&") or None
    assert len(seen) == count
    assert len(set(seen)) == count


async def stored(site: Site, image: Document, content: bytes) -> URL:
    """Write an object whose type is a lie; return the address of its bytes."""
    etag = await site.store.write(image["key"], content, content_type="text/html", metadata={})
    return URL("/content").with_query(id=image["_id"], etag=etag)


async def test_bytes_that_the_page_does_not_know_are_not_shown_on_it(
    site: Site, ada: Person
) -> None:
    images = [known("seen", 0.1), known("ahead", 0.2)]
    await site.add(*images, with_objects=True)
    pages = [
        *(await ada.see("/queue"), await ada.see("/gallery")),
        await ada.see(f"/image?id={images[0]['_id']}"),
    ]
    shown = [re.findall(r'src="(/content[^"]*)"', page) for page in pages]
    assert [len(addresses) for addresses in shown] == [2, 2, 1]
    addresses = {unescape(address) for addresses in shown for address in addresses}
    assert len(addresses) == 2
    for address in addresses:
        async with ada.client.get(address) as response:
            assert response.headers["Content-Type"] == "image/png"
    for image in images:
        await stored(site, image, line_image("another"))
    for address in addresses:
        assert "changed" in await ada.see(address, status=409)


async def test_every_format_reaches_the_browser(site: Site, ada: Person) -> None:
    for image_format in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"):
        image = known(image_format, 0.1)
        await site.add(image)
        content = line_image("shown", image_format=image_format)
        async with ada.client.get(await stored(site, image, content)) as response:
            assert response.status == 200
            assert response.headers["Content-Type"] in {
                *("image/png", "image/jpeg", "image/webp", "image/gif"),
            }
            assert response.headers["Content-Security-Policy"].startswith("sandbox")
            with Image.open(BytesIO(await response.read())) as shown:
                assert shown.width > shown.height


async def test_deep_grey_tiff_is_not_cut_off(site: Site, ada: Person) -> None:
    image = known("deep", 0.1)
    await site.add(image)
    grey = Image.new("I;16", (30, 10), 40_000)
    async with ada.client.get(await stored(site, image, encode(grey, "TIFF"))) as response:
        with Image.open(BytesIO(await response.read())) as shown:
            assert shown.getpixel((5, 5)) == pytest.approx(156, abs=1)


@pytest.mark.parametrize(
    "content", [b"<script>alert(1)</script>", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b""]
)
async def test_what_is_no_image_is_not_sent(site: Site, ada: Person, content: bytes) -> None:
    image = known("page", 0.1)
    await site.add(image)
    async with ada.client.get(await stored(site, image, content)) as response:
        assert response.status == 415
        assert content not in await response.read() or not content


async def test_rejected_image_is_not_shown(site: Site, ada: Person) -> None:
    error = {"code": "undecodable_image", "message": "damaged", "at": NOW}
    image = known("rejected", 0.1, status="rejected", prediction=None, error=error)
    await site.add(image)
    await site.store.write(image["key"], line_image("x"), content_type="image/png", metadata={})

    await ada.see(f"/content?id={image['_id']}&etag=e1", status=415)

    assert "/content" not in await ada.see(f"/image?id={image['_id']}")


async def test_correction_on_the_images_page_keeps_the_earlier_one(site: Site, ada: Person) -> None:
    before = {"text": "theirs", "quality": "ok", "by": "bob", "at": NOW}
    image = known("one", 0.1, annotation=before)
    await site.add(image)
    page = await ada.see(f"/image?id={image['_id']}")
    assert fields_of(page)["text"] == "theirs"
    saved = await ada.send(
        "/image/annotate", {"id": image["_id"], "etag": "e1", "text": "mine", "quality": "ok"}
    )
    assert "Saved." in saved
    assert "theirs" in saved
    document = await site.document(image["_id"])
    assert document["annotation"]["by"] == "ada"
    assert document["annotation_history"] == [before]
    await ada.send(
        "/image/annotate",
        {"id": image["_id"], "etag": "other", "text": "x", "quality": "ok"},
        status=409,
    )


async def test_quality_page_counts_errors_by_score_host_and_model(
    s3_settings: S3Settings, mongo_settings: MongoSettings, amqp_settings: AmqpSettings
) -> None:
    async with open_review(
        s3_settings, mongo_settings, amqp_settings, quality_refresh_seconds=0.1
    ) as site:
        note = {"text": "abcd", "quality": "ok", "by": "ada", "at": NOW}
        source = {"sources": [{"url": "https://h.example/a", "batch_id": None}]}
        await site.add(known("abcx", 0.05, annotation=note, **source), known("fine", 0.95))
        async with site.person() as ada:

            async def page() -> str | None:
                html = await ada.see("/quality")
                return html if "2 images were read" in html else None

            html = await eventually(page)
    assert "25.0%" in html
    assert "h.example" in html
    assert "(uploaded)" in html
    assert "rapidocr 1" in html


async def test_list_and_images_that_are_dropped_are_submitted(
    s3_settings: S3Settings, mongo_settings: MongoSettings, private_amqp_settings: AmqpSettings
) -> None:
    async with (
        open_surroundings(s3_settings, private_amqp_settings, mongo_settings) as around,
        running_fetcher(around, api_token="tok en") as api,
        open_review(
            s3_settings,
            mongo_settings,
            private_amqp_settings,
            fetcher_url=str(api._base_url),
            fetcher_token="tok en",
        ) as site,
        site.person() as ada,
    ):
        assert "none yet" in await ada.see("/batches")
        form = FormData({"token": ada.token}, quote_fields=False)
        form.add_field("file", b"http://127.0.0.1:9/a.png\nftp://no/\n", filename="my <list>.txt")
        async with ada.client.post("/submit", data=form) as response:
            html = await response.text()
            assert response.url.path.startswith("/batches/2")
        assert "1" in html

        async def has_failed() -> str | None:
            html = await ada.see(response.url.path)
            return html if "What failed" in html else None

        assert "127.0.0.1:9/a.png" in await eventually(has_failed)
        assert "my &lt;list&gt;.txt" in await ada.see("/batches")

        content = line_image("dropped")
        form = FormData({"token": ada.token})
        form.add_field("file", content, filename="../../x.html")
        async with ada.client.post("/submit", data=form) as response:
            assert "Images stored: 1" in await response.text()
        stored = [each async for each in site.store.list()]
        assert [each.key.split("/")[0] for each in stored] == ["uploads"]
        assert (await site.store.read(stored[0].key, max_bytes=10**6)).content == content

        form = FormData({"token": ada.token})
        form.add_field("file", b"nothing to see", filename="a.txt")
        async with ada.client.post("/submit", data=form) as response:
            assert response.status == 422


async def test_missing_fetcher_is_said_on_the_page(ada: Person) -> None:
    assert "fetcher does not answer" in await ada.see("/batches", status=503)


async def test_upload_that_is_too_large_is_refused_at_once(
    s3_settings: S3Settings, mongo_settings: MongoSettings, amqp_settings: AmqpSettings
) -> None:
    async with (
        open_review(s3_settings, mongo_settings, amqp_settings, max_upload_bytes=2048) as site,
        site.person() as ada,
    ):
        await ada.see("/gallery")
        form = FormData({"token": ada.token})
        form.add_field("file", bytes(4096), filename="a.png")
        async with ada.client.post("/submit", data=form) as response:
            assert response.status == 413
