"""The review page's other pages: what is escaped, saved, counted and submitted."""

import re
import zipfile
from base64 import b64encode
from io import BytesIO
from typing import Any
from urllib.parse import quote

import numpy as np
from aiohttp import FormData
from PIL import Image

from services.common.adapters.object_store import sibling
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from tests.factories import prediction
from tests.support.fetcher import open_surroundings, running_fetcher
from tests.support.images import line_image
from tests.support.review import NOW, OpenReview, Person, Site, fields_of, known, open_review
from tests.support.waiting import eventually

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 'jin' ~ 'ja' }}"
DEEP = b64encode(b"[" * 2900).decode()
HOSTILE_KEY = "../..//<b>%2e%2e\"'?&#x=é\u202e.png"


async def test_hostile_texts_are_only_text(review: Site, ada: Person) -> None:
    image = known(
        HOSTILE,
        0.1,
        key=HOSTILE_KEY,
        sources=[
            {"url": "javascript:alert(1)", "batch_id": HOSTILE, "fetched_at": None},
            {"url": 'https://h.example/"><script>', "batch_id": None, "fetched_at": None},
            {"kind": HOSTILE, "group": HOSTILE, "metadata": {HOSTILE: HOSTILE, "n": [7, HOSTILE]}},
        ],
        history=[prediction(HOSTILE, engine=HOSTILE, model_version=HOSTILE).to_mongo()],
        annotation_history=[{"text": HOSTILE, "by": HOSTILE, "quality": "ok", "at": NOW}],
    )
    await review.add(image)
    pages = [await ada.see("/queue"), await ada.see("/gallery")]
    async with ada.client.get("/image", params={"id": image["_id"]}) as response:
        assert response.status == 200
        pages.append(await response.text())
    pages.append(await ada.see("/gallery?q=%3Cscript%3E&host=%22%3E%3Cscript%3E"))
    pages.append(await ada.send("/queue/answer", {"mode": "worst", "action": HOSTILE}, status=422))
    for html in pages:
        assert "<script>" not in html
        assert "<img src=x" not in html
        assert "jinja" not in html
        assert 'href="javascript' not in html
    assert "n: [7, " in pages[2]
    assert fields_of(pages[0])["text"] == HOSTILE
    assert fields_of(pages[0])["id"] == image["_id"]


async def test_alert_has_a_page_that_says_what_to_do(ada: Person) -> None:
    assert "under the critical threshold" in await ada.see("/alerts/OcrMeanScoreCritical")
    await ada.see("/alerts/unknown", status=404)


async def test_hostile_addresses_are_refused_as_a_page(ada: Person) -> None:
    for path in (
        *("/image?id=", "/image?id=no/such", "/content?id=..%2f..%2fetc&etag=e", "/image", "/none"),
        *("/gallery?cursor=x", "/gallery?low=2", "/gallery?order=up", "/queue?mode=$where"),
        *("/gallery?where=metadata.$where%3D1", "/queue?where=year%3D1"),
        *("/gallery?cursor=WzFlOTk5LCBudWxsXQ==", "/batches/a%20b", "/image?id[$ne]=1"),
        "/gallery?cursor=WyI5OTk5LTEyLTMxVDAwOjAwOjAwKzAwOjAwIiwgbnVsbF0=",  # year 9999
        *("/gallery?cursor=WyJhIl0=&order=worst", f"/gallery?cursor={DEEP}"),
    ):
        async with ada.client.get(path) as response:
            assert response.status in {404, 422}, path
            assert response.headers["Content-Type"].startswith("text/html")
            assert "<h1>Error</h1>" in await response.text()


async def test_correction_on_the_images_page_keeps_the_earlier_one(
    review: Site, ada: Person
) -> None:
    before = {"text": "theirs", "quality": "ok", "by": "bob", "at": NOW}
    image = known("one", 0.1, annotation=before)
    await review.add(image)
    page = await ada.see(f"/image?id={image['_id']}")
    assert fields_of(page)["text"] == "theirs"
    saved = await ada.send(
        "/image/annotate", {"id": image["_id"], "etag": "e1", "text": "mine", "quality": "ok"}
    )
    assert "Saved." in saved
    assert "theirs" in saved
    document = await review.document(image["_id"])
    assert document["annotation"]["by"] == "ada"
    assert document["annotation_history"] == [before]
    await ada.send(
        "/image/annotate",
        {"id": image["_id"], "etag": "other", "text": "x", "quality": "ok"},
        status=409,
    )


async def test_quality_page_translates_what_has_no_source(review_with: OpenReview) -> None:
    async with (
        review_with(quality_refresh_seconds=0.1) as review,
        review.person() as ada,
    ):
        await review.add(known("line", 0.5))
        french = {"Accept-Language": "fr"}

        async def page() -> str | None:
            async with ada.client.get("/quality", headers=french) as response:
                html = await response.text()
            return html if "(envoyée)" in html or "(uploaded)" in html else None

        html = await eventually(page)
    assert "(uploaded)" not in html


async def test_quality_page_counts_errors_by_score_host_and_model(review_with: OpenReview) -> None:
    async with review_with(quality_refresh_seconds=0.1) as review:
        note = {"text": "abcd", "quality": "ok", "by": "ada", "at": NOW, "how": "corrected"}
        source = {
            "sources": [
                {"url": "https://h.example/a"},
                {"collection": "l", "batch_id": "b", "group": "g"},
            ]
        }
        same = {"sha256": "ab" * 32}
        await review.add(
            known("a copy", 0.05, sources=[{"url": "https://copy.example/"}], **same),
            known("abcx", 0.05, annotation=note, **source, **same),
            known(
                "fine",
                0.95,
                annotation=note | {"text": "fine", "how": "accepted"},
                page={"id": "pages/rendered/é.webp", "line": "1", "group": "pages/book.pdf"},
            ),
        )
        async with review.person() as ada:

            async def page() -> str | None:
                html = await ada.see("/quality")
                return html if "2 images were read" in html else None

            html = await eventually(page)
            part = await ada.see("/quality?collection=l&batch=b")
            none = await ada.see("/quality?collection=m")
            behind = await ada.see(
                "/gallery?order=worst&misread=d%E2%86%92x&errors=some&how=corrected"
            )
            model = await ada.see("/gallery?model=rapidocr+2")
            gallery, queue = await ada.see("/gallery"), await ada.see("/queue")
    assert "1 image was read" in part
    assert "(CER) is 25.0%" in part
    assert '<option value="b" selected>b (1)</option>' in part
    for name in ("g", "h.example"):
        assert (gallery + queue).count(f'<option value="{name}">1 image</option>') == 2
    assert "0 images were read" in none
    assert '<option value="m" selected>m</option>' in none
    assert "1 of 2 texts are predictions that a person accepted as shown" in html
    assert "without them it is 25.0%" in html
    assert "the character error rate (CER) is 12.5%" in html
    assert '<a href="/pages/rendered/%C3%A9.webp">rendered/é.webp</a>' in html
    assert '<a href="/pages?document=book.pdf">book.pdf</a>' in html
    assert "By document" not in part
    assert all(each in html for each in ("h.example", "copy.example", "(uploaded)"))
    assert "rapidocr 1" in html
    assert f"misread={quote('d→x')}" in html
    assert ("abcx" in behind, "fine" in behind, "Nothing found" in model) == (True, False, True)


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
        ) as review,
        review.person() as ada,
    ):
        assert "none yet" in await ada.see("/batches")
        form = FormData({"token": ada.token}, quote_fields=False)
        form.add_field("file", b"http://127.0.0.1:9/a.png\nftp://no/\n", filename="my <list>.txt")
        async with ada.client.post("/submit", data=form) as response:
            html = await response.text()
            assert response.status == 200
        assert "Rejected lines: 1" in html
        assert "ftp://no/" in html
        progress = html.partition('href="/batches/2')[2].partition('"')[0]

        async def has_failed() -> str | None:
            html = await ada.see(f"/batches/2{progress}")
            return html if "What failed" in html else None

        assert "127.0.0.1:9/a.png" in await eventually(has_failed)
        assert "my &lt;list&gt;.txt" in await ada.see("/batches")
        source = {"url": "http://a.test/", "batch_id": f"2{progress}"}
        await review.add(known("unavailable", 0.9, placeholder=True, sources=[source]))
        assert "1 of its images is a placeholder" in await ada.see(f"/batches/2{progress}")

        await sees_failures_fetched_again(ada, f"/batches/2{progress}")
        await sees_images_and_archives_taken(ada, review)
        await sees_what_was_taken_beside_what_was_not(ada, review)
        await sees_how_a_table_is_read(ada)


async def sees_failures_fetched_again(ada: Person, path: str) -> None:
    batch = await ada.see(path)
    assert "<h1>my &lt;list&gt;.txt</h1>" in batch
    assert "<dt>rejected rows</dt><dd>1</dd>" in batch
    assert "<small>unsupported_scheme</small></th>" in batch
    await ada.send(f"{path}/retry", {"scope": "some"}, status=422)
    assert "One item is fetched again." in await ada.send(f"{path}/retry", {"scope": "all"})


async def sees_how_a_table_is_read(ada: Person) -> None:
    content = "lien_scan;texte <vrai>;fonds\nhttp://127.0.0.1:9/c.png;Été;A\n".encode("cp1252")
    form = FormData({"token": ada.token})
    form.add_field("file", content, filename="labels.csv")
    async with ada.client.post("/submit", data=form) as response:
        assert response.status == 422
        html = await response.text()
    assert "no column is named url" in html
    assert 'name="url_column"' in html

    names = {"url_column": "lien_scan", "text_column": "texte <vrai>", "encoding": ""}
    form = FormData({"token": ada.token, **names})
    form.add_field("file", content, filename="labels.csv")
    async with ada.client.post("/submit", data=form) as response:
        assert response.status == 200
        html = await response.text()
    for words in ("<dd>lien_scan</dd>", "<dd>texte &lt;vrai&gt;</dd>", "<dd>fonds</dd>"):
        assert words in html
    assert "<dt>with a text</dt><dd>1</dd>" in html
    assert "cp1252" in html
    assert 'href="/batches/2' in html


async def sees_images_and_archives_taken(ada: Person, review: Site) -> None:
    images = {"../../x.html": line_image("dropped"), "a": large_image("WEBP", lossless=True)}
    images["b"] = large_image("TIFF", compression="tiff_deflate")
    form = FormData({"token": ada.token, "collection": "mine"}, quote_fields=False)
    for name, content in images.items():
        form.add_field("file", content, filename=name)
    async with ada.client.post("/submit", data=form) as response:
        assert re.search(r"/batches/2\S+", str(response.url))
    await eventually(lambda: has_objects(review, 3))
    metadata = [await review.store.head(each.key) async for each in review.store.list()]
    names = {(each.metadata["name"], each.metadata["collection"]) for each in metadata if each}
    assert names == {("x.html", "mine"), ("a", "mine"), ("b", "mine")}
    assert {each.metadata["by"] for each in metadata if each} == {"ada"}
    assert "3 images" in await ada.see("/batches")

    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("c.png", line_image("packed"))
        archive.writestr("labels.csv", "file_name,text\nc.png,packed\n")
    form = FormData({"token": ada.token})
    form.add_field("file", packed.getvalue(), filename="scans.zip")
    async with ada.client.post("/submit", data=form) as response:
        assert re.search(r"/batches/2\S+", str(response.url))
    await eventually(lambda: has_objects(review, 4))
    assert "scans" in await ada.see("/batches")


async def has_objects(review: Site, number: int) -> bool:
    return len([each async for each in review.store.list()]) == number


async def sees_what_was_taken_beside_what_was_not(ada: Person, review: Site) -> None:
    form = FormData({"token": ada.token})
    form.add_field("file", b"nothing <to> see", filename="a.txt")
    form.add_field("file", b"http://127.0.0.1:9/b.png", filename="b.txt")
    form.add_field("file", line_image("dropped, too"), filename="c.png")
    form.add_field("file", b"%PDF-1.7\n", filename="page.pdf")
    async with ada.client.post("/submit", data=form) as response:
        assert response.status == 422
        html = await response.text()
    assert "nothing &lt;to&gt; see" in html
    assert html.count('href="/batches/2') == 3
    pages = sibling(review.store, f"{review.store.bucket}-pages")

    async def stored() -> list[str]:
        return [each.key async for each in pages.list()]

    (key,) = await eventually(stored)
    assert key.endswith(".pdf")


def large_image(name: str, **options: Any) -> bytes:
    noise = np.random.default_rng(1).bytes(200 * 200 * 3)
    content = BytesIO()
    Image.frombytes("RGB", (200, 200), noise).save(content, name, **options)
    return content.getvalue()


async def test_missing_fetcher_is_said_on_the_page(ada: Person) -> None:
    assert "fetcher does not answer" in await ada.see("/batches", status=503)


async def test_upload_that_is_too_large_is_refused_at_once(review_with: OpenReview) -> None:
    async with (
        review_with(max_upload_bytes=2048) as review,
        review.person() as ada,
    ):
        await ada.see("/gallery")
        form = FormData({"token": ada.token})
        form.add_field("file", bytes(4096), filename="a.png")
        async with ada.client.post("/submit", data=form) as response:
            assert response.status == 413
            assert "<h1>Error</h1>" in await response.text()
