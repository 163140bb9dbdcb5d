"""An annotator's hour in small, in real browsers: by keyboard, without seeing what another sees."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientSession, FormData
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Browser, Page, Route, async_playwright, expect

from infra.local.as_root import install_packages
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Document
from services.common.adapters.object_store import sibling
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from services.datasets.export import ExportSources, export
from services.datasets.manifest import ExportQuery, Format
from tests.support.fetcher import open_surroundings, running_fetcher
from tests.support.images import line_image
from tests.support.review import NOW, PAGE_KEY, Site, add_page, known, open_review
from tests.support.waiting import eventually
from tests.support.web import WebSite, open_site

LINES = 15
ANNOTATED = 12
COMPOSE = """
(field, keys) => field.dispatchEvent(
  new KeyboardEvent("keydown", {...keys, bubbles: true, cancelable: true})
)
"""
"""A key of an input method; false: the page has prevented what it does by default."""
WATCH_SWAPS = """
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id !== "task") return;
  setTimeout(() => { window.wasReady = "isShown" in document.getElementById("text").dataset; });
})
"""
EXPECT_MILLISECONDS = 60_000
"""A busy machine takes longer than the five seconds that are usual."""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
HOSTILE = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"


@dataclass
class Office:
    """The review page, the fetcher behind it, a web site to fetch from, and a browser."""

    review: Site
    web: WebSite
    browser: Browser
    troubles: list[str]
    """Complaints of browsers: script errors, and violations of the policy."""

    @asynccontextmanager
    async def desk(self, name: str, **options: Any) -> AsyncIterator[Page]:
        """A person's own browser, logged in by keyboard."""
        context = await self.browser.new_context(base_url=self.review.url, **options)
        page = await context.new_page()
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        await page.goto("/queue")
        await page.keyboard.type(name)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Queue")).to_be_visible()
        await expect(page.locator("#text:focus, .empty")).to_be_visible()
        try:
            yield page
        finally:
            await context.close()

    def _note(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.troubles.append(message.text)


@pytest.fixture
async def office(
    s3_settings: S3Settings, mongo_settings: MongoSettings, private_amqp_settings: AmqpSettings
) -> AsyncIterator[Office]:
    if shutil.which("chromium") is None:
        install_packages(["chromium"], print)
    found = shutil.which("chromium")
    assert found, "Chromium is needed to look at the pages"
    troubles: list[str] = []
    expect.set_options(timeout=EXPECT_MILLISECONDS)
    async with (
        open_site() as web,
        open_surroundings(s3_settings, private_amqp_settings, mongo_settings) as around,
        running_fetcher(around) as api,
        open_review(
            *(s3_settings, mongo_settings, private_amqp_settings),
            fetcher_url=address_of(api),
            quality_refresh_seconds=1,
        ) as review,
        async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield Office(review, web, browser, troubles)
        await browser.close()
    assert troubles == []


def address_of(api: ClientSession) -> str:
    return str(api._base_url)


def line(number: int) -> Document:
    source = {
        "url": f"https://host-{number % 3}.example/{number}.png",
        "batch_id": f"b{number % 2}",
        "fetched_at": NOW,
    }
    return known(f"Line number {number}", number / 40, sources=[source])


async def image_of(page: Page) -> str:
    found: str = await page.input_value("#task input[name=id]")
    return found


async def press(page: Page, keys: str) -> None:
    """Press, and wait for what comes after the image that is shown."""
    before = await page.locator("#task").element_handle()
    assert before is not None
    await page.keyboard.press(keys)
    await before.wait_for_element_state("hidden")
    await expect(page.locator("#text:focus, .empty")).to_be_visible()


async def annotate(page: Page, number: int) -> dict[str, str]:
    """Say something of the image that is shown; return what the document must say then."""
    text = await page.input_value("#text")
    image = await image_of(page)
    if number % 10 == 3:
        await press(page, "Alt+u")
        return {"id": image, "text": "", "quality": "unreadable"}
    if number % 10 == 7:
        await press(page, "Alt+n")
        return {"id": image, "text": "", "quality": "not_a_line"}
    if number % 2:
        await page.keyboard.type(", corrected é")
        text += ", corrected é"
    await press(page, "Enter")
    return {"id": image, "text": text, "quality": "ok"}


async def use_keys(page: Page, last: str) -> None:
    """Write, take and repeat texts and look closer by keys, and reload the page meanwhile."""
    text, read = page.locator("#text"), await page.input_value("#text")
    await page.keyboard.type(" x")
    await page.keyboard.press("Alt+1")
    await expect(text).to_have_value(f"{read} xé")
    await expect(page.locator(".diff").first).to_have_text(f"{read} xé")
    await expect(page.locator(".diff ins")).to_have_text(" xé")
    await page.reload()
    await expect(text).to_have_value(f"{read} xé")
    await expect(page.get_by_role("status")).to_contain_text("is here again")
    await page.keyboard.press("Alt+r")
    await expect(text).to_have_value(last)
    await page.keyboard.press("Alt+j")
    await expect(text).to_have_value(read)
    width = await page.locator("#line").evaluate("image => image.clientWidth")
    await page.keyboard.press("Alt+ArrowUp")
    await page.keyboard.press("Alt+ArrowUp")
    await page.keyboard.press("Alt+t")
    turned = await page.locator("#line").bounding_box()
    assert turned is not None
    assert turned["height"] > turned["width"]
    await page.keyboard.press("Alt+t")
    assert await page.locator("#line").evaluate("image => image.clientWidth") > width
    await page.keyboard.press("Alt+h")
    await expect(page.get_by_text("repeat the text")).to_be_visible()
    await expect(page.locator("#progress")).to_contain_text("by you")


async def test_lines_are_annotated_by_keyboard_and_exported(office: Office, tmp_path: Path) -> None:
    review = office.review
    await review.add(*(line(number) for number in range(LINES)), with_objects=True)
    async with office.desk("Ada Lovelace") as page:
        said = [await annotate(page, number) for number in range(ANNOTATED)]
        await press(page, "Alt+z")
        assert await image_of(page) == said[-1]["id"]
        said[-1] = await annotate(page, 4)
        skipped = await image_of(page)
        await press(page, "Alt+s")
        assert await image_of(page) != skipped

        await use_keys(page, said[-1]["text"])

    assert len({each["id"] for each in said}) == ANNOTATED
    for expected in said:
        annotation = (await review.document(expected["id"]))["annotation"]
        assert (annotation["text"], annotation["quality"]) == (
            expected["text"],
            expected["quality"],
        )
        assert annotation["by"] == "Ada Lovelace"
        assert annotation["at"] > NOW
    last = await review.document(said[-1]["id"])
    assert [each["by"] for each in last["annotation_history"]] == ["Ada Lovelace"]
    assert "undone_at" in last["annotation_history"][0]
    assert await review.database.images.count({"annotation": {"$ne": None}}) == ANNOTATED

    await review.database.images.update_many({}, {"$set": {"bucket": review.store.bucket}})
    query = ExportQuery(format=Format.HF, bucket=review.store.bucket, only_annotated=True)
    sources = ExportSources(
        ImageRepository(review.database.images), review.store, sibling(review.store, "pages")
    )
    manifest = await export(query, sources, tmp_path / "out", lambda *_: None)
    assert manifest.images == sum(each["quality"] == "ok" for each in said)
    records = (tmp_path / "out" / "manifest.jsonl").read_text()
    assert records.count("corrected \\u00e9") + records.count("corrected é") == sum(
        "corrected" in each["text"] for each in said
    )


async def test_page_is_annotated_from_top_to_bottom_by_keyboard(office: Office) -> None:
    await add_page(office.review)
    path = f"/pages/{quote(PAGE_KEY)}"
    async with office.desk("ada") as page:
        await page.goto(path)
        await page.locator("#text-1").focus()
        await page.keyboard.press("End")
        await page.keyboard.type("!")
        await page.keyboard.press("Enter")
        await expect(page.locator("#text-2:focus")).to_be_visible()
        await expect(page.locator("polygon.now")).to_have_attribute("data-line", "2")
        await page.keyboard.press("Alt+n")
        await expect(page.locator("#text-3:focus")).to_be_visible()
        await page.locator("polygon[data-line='1']").click()
        await expect(page.locator("#text-1:focus")).to_have_value("first line!")
        [by_key, by_mouse] = await draw_line(page)
        assert "&line=0&points=" in by_key
        assert "&line=0&points=" in by_mouse
        assert by_key != by_mouse
        found = (await Axe().run(page)).response["violations"]
        assert [each for each in found if each["impact"] in {"serious", "critical"}] == []
        await page.goto(f"/image?id={office.review.store.bucket}/lines/0.webp")
        await expect(page.locator(".strip polygon.now")).to_be_visible()
    documents = [
        await office.review.document(f"{office.review.store.bucket}/lines/{number}.webp")
        for number in range(3)
    ]
    said = [each["annotation"] and each["annotation"]["quality"] for each in documents]
    assert said == ["ok", "not_a_line", None]


async def draw_line(page: Page) -> list[str]:
    """Change the box of the line that has the focus by keyboard, draw one; return what is sent."""
    sent: list[str] = []

    async def answer(route: Route) -> None:
        sent.append(route.request.post_data or "")
        await route.fulfill(status=202, content_type="text/plain", body=f"answer {len(sent)}")

    said, sheet = page.locator("[data-cut-said]"), page.locator(".sheet")
    await page.route("**/pages/cut", answer)
    await page.keyboard.press("Alt+b")
    await expect(page.locator("circle.drawn:focus")).to_be_visible()
    await page.keyboard.press("Shift+ArrowLeft")
    await page.keyboard.press("Enter")
    await expect(said).to_have_text("answer 1")
    await sheet.drag_to(
        sheet, source_position={"x": 40, "y": 200}, target_position={"x": 200, "y": 240}
    )
    await page.keyboard.press("Enter")
    await expect(said).to_have_text("answer 2")
    return sent


async def test_two_browsers_never_see_the_same_image(office: Office) -> None:
    await office.review.add(*(line(number) for number in range(20)), with_objects=True)
    async with office.desk("ada") as ada, office.desk("bob") as bob:
        seen: list[str] = []
        for _ in range(9):
            shown = await image_of(ada), await image_of(bob)
            assert shown[0] != shown[1]
            seen += shown
            await press(ada, "Enter")
            await press(bob, "Enter")
    assert len(set(seen)) == len(seen) == 18


async def test_next_image_is_loaded_while_the_first_is_read(office: Office) -> None:
    await office.review.add(*(line(number) for number in range(4)), with_objects=True)
    async with office.desk("ada") as page:
        loaded: list[str] = []
        page.on("request", lambda request: loaded.append(request.url))
        ahead = page.locator("#ahead")
        address = await ahead.get_attribute("src")
        await expect(ahead).to_have_js_property("complete", value=True)
        await press(page, "Enter")
        shown = page.locator("#line")
        assert await shown.get_attribute("src") == address
        await expect(shown).to_have_js_property("complete", value=True)
        assert await shown.evaluate("image => image.naturalWidth") > 0
        assert not [each for each in loaded if address and each.endswith(address)]


async def test_message_stays_until_it_is_closed(office: Office) -> None:
    await office.review.add(*(line(number) for number in range(3)), with_objects=True)
    async with office.desk("ada") as page:
        said, close = page.locator("#said"), page.get_by_role("button", name="Close the message")
        await expect(close).to_be_hidden()
        await press(page, "Enter")
        await expect(said).to_contain_text("Saved")
        await close.click()
        await expect(said).to_be_hidden()
        await expect(page.locator("#text")).to_be_focused()
        await press(page, "Alt+KeyS")
        await expect(said).to_contain_text("Skipped")


@pytest.mark.parametrize("composing", [{"isComposing": True}, {"keyCode": 229}])
async def test_keys_of_an_input_method_are_its_own(
    office: Office, composing: dict[str, object]
) -> None:
    enter = {**composing, "key": "Enter"}
    unreadable = {**composing, "key": "u", "code": "KeyU", "altKey": True}
    await add_page(office.review)
    async with office.desk("ada") as page:
        for path, field in (("/queue", "#text"), (f"/pages/{quote(PAGE_KEY)}", "#text-1")):
            await page.goto(path)
            assert not await page.locator(field).evaluate(COMPOSE, enter)
            assert await page.locator(field).evaluate(COMPOSE, unreadable)


async def test_text_that_is_not_saved_comes_back_after_undo(office: Office) -> None:
    await office.review.add(*(line(number) for number in range(3)), with_objects=True)
    async with office.desk("ada") as page:
        await press(page, "Enter")
        await page.keyboard.type(", typed")
        await press(page, "Alt+z")
        await expect(page.locator("#text:focus")).to_have_value("Line number 0")
        await press(page, "Enter")
        await expect(page.locator("#text:focus")).to_have_value("Line number 1, typed")


async def test_enter_that_is_held_down_accepts_one_image(office: Office) -> None:
    await office.review.add(*(line(number) for number in range(4)), with_objects=True)
    async with office.desk("ada") as page:
        await page.keyboard.down("Enter")
        await expect(page.locator("#text:focus")).to_have_value("Line number 1")
        await page.keyboard.down("Enter")
        await page.wait_for_load_state("networkidle")
        await expect(page.locator("#text:focus")).to_have_value("Line number 1")
        await page.keyboard.up("Enter")
        await press(page, "Enter")
        await expect(page.locator("#text:focus")).to_have_value("Line number 2")


async def test_nothing_can_be_typed_before_the_next_text_is_ready(office: Office) -> None:
    """Else keys would get into the prediction, and their selection would be lost."""
    await office.review.add(*(line(number) for number in range(3)), with_objects=True)
    async with office.desk("ada") as page:
        await page.evaluate(WATCH_SWAPS)
        await press(page, "Enter")
        await page.wait_for_function("window.wasReady !== undefined")
        assert await page.evaluate("window.wasReady")


async def test_search_goes_on_when_the_page_is_there(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.review.search_limits.FIRST_SECONDS", -1.0)
    await office.review.add(known("far", 0.5), with_objects=True)
    async with office.desk("ada") as page:
        await expect(page.locator("#text:focus")).to_have_value("far")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_contain_text("Saved")
        await page.goto("/gallery?q=far&order=worst")
        await expect(page.locator(".cards .read")).to_have_text("far")


async def test_person_goes_on_while_a_search_does(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.review.search_limits.FIRST_SECONDS", -1.0)
    await office.review.add(known("far", 0.5), with_objects=True)
    is_over = asyncio.Event()

    async def hold(route: Route) -> None:
        await is_over.wait()
        await route.continue_()

    async with office.desk("ada") as page:
        await page.route("**/queue?*wait=true", hold)
        await page.goto("/queue")
        await page.keyboard.press("Alt+z")
        await expect(page.get_by_role("status")).to_have_text("Nothing to undo.")
        await expect(page.get_by_text("Searching")).to_be_visible()
        await page.get_by_text("Only some images").click()
        await page.get_by_label("Host").fill("fa")
        is_over.set()
        await expect(page.locator("#text")).to_have_value("far")
        await page.keyboard.type("r")
        await expect(page.get_by_label("Host")).to_have_value("far")


async def test_image_is_found_again_and_has_its_history(office: Office) -> None:
    await office.review.add(*(line(number) for number in range(5)), with_objects=True)
    async with office.desk("ada") as page:
        await page.keyboard.type("!")
        await press(page, "Enter")
        await press(page, "Alt+z")
        await press(page, "Enter")
        await page.get_by_role("link", name="Gallery").click()
        await page.get_by_label("Search").fill("number 0")
        await page.keyboard.press("Enter")
        await expect(page.locator(".cards li")).to_have_count(1)
        await page.locator(".cards a").click()
        await expect(page.get_by_role("table")).to_contain_text("Line number 0!")
        await expect(page.get_by_role("table")).to_contain_text("undone at")
        await page.get_by_label("What the image says").fill("Line No. 0")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Saved.")).to_be_visible()
        await expect(page.get_by_role("table").get_by_role("row")).to_have_count(3)


async def test_dropped_list_is_submitted_and_shows_its_progress(office: Office) -> None:
    paths = [f"/{number}.png" for number in range(3)]
    urls = [office.web.add_body(path, line_image(f"From the web {path[1]}")) for path in paths]
    urls.append(office.web.url("/missing.png"))
    async with office.desk("ada") as page:
        await page.get_by_role("link", name="Batches").click()
        await page.wait_for_url("**/batches")  # loaded, so that the script listens
        dropped = await page.evaluate_handle(
            """text => {
                const files = new DataTransfer();
                files.items.add(new File([text], "dropped.txt", {type: "text/plain"}));
                return files;
            }""",
            "\n".join(urls),
        )
        await page.dispatch_event("main", "drop", {"dataTransfer": dropped})
        await expect(page.get_by_role("heading", name="dropped.txt")).to_be_visible()
        await expect(page.locator("#progress")).to_contain_text("4 of 4 done", timeout=90_000)
        failed = page.get_by_role("region", name="Failed items")
        await expect(failed).to_contain_text("/missing.png")
    stored = [each.key async for each in office.review.store.list()]
    assert len(stored) == 3


async def test_untrusted_texts_do_not_run(office: Office) -> None:
    await office.review.add(known(HOSTILE, 0.1, key=f"{HOSTILE}.png"))
    async with office.desk("ada") as page:
        assert await page.input_value("#text") == HOSTILE
        for path in ("/gallery", "/queue"):
            await page.goto(path)
            assert "review" in await page.title()
    # Its image is not there
    assert all("404" in each or "415" in each for each in office.troubles)
    office.troubles.clear()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
async def test_axe_finds_nothing_and_pages_fit(office: Office, scheme: str, width: int) -> None:
    await office.review.add(*(line(number) for number in range(5)), with_objects=True)
    batch = await submitted(office)
    image, size = line(4)["_id"], {"width": width, "height": 800}
    async with office.desk("ada", color_scheme=scheme, viewport=size) as page:
        await eventually(lambda: counted(page))
        found = []
        for path in (
            *("/", "/queue", "/suspects", "/gallery", "/gallery?q=nothing", "/batches"),
            *("/quality", "/models", "/login"),
            *(f"/batches/{batch}", f"/image?id={image}", "/image?id=none"),
        ):
            await page.goto(path)
            assert await page.evaluate("document.documentElement.scrollWidth") <= width, path
            answer = await Axe().run(page)
            found += [
                (path, each["id"], each["nodes"][0]["html"], each["nodes"][0]["failureSummary"])
                for each in answer.response["violations"]
                if each["impact"] in {"serious", "critical"}
            ]
    assert found == []
    # The last page does not exist
    assert all("404" in each for each in office.troubles)
    office.troubles.clear()


async def submitted(office: Office) -> str:
    """Submit a list of one address that is missing; return its batch."""
    async with office.review.person() as person:
        await person.see("/batches")
        form = {"token": person.token}

        data = FormData(form)
        data.add_field("file", office.web.url("/none.png").encode(), filename="list.txt")
        async with person.client.post("/submit", data=data) as response:
            return response.url.name


async def counted(page: Page) -> bool:
    await page.goto("/quality")
    return await page.get_by_text("were read").count() > 0
