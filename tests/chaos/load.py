"""Images and pages that enter while programs fail: half by the fetcher, half into their bucket."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from random import Random

from aiohttp import ClientError
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from services.common.adapters.object_store import ObjectStore, sibling
from services.common.domain.errors import ObjectStoreUnavailableError
from services.common.domain.page import PAGES_BUCKET
from tests.chaos.faults import merge
from tests.support.images import draw_line, encode
from tests.support.pages import LEFT_LINES, RIGHT_LINES, draw_page
from tests.support.pipeline import Client
from tests.support.web import WebSite

BATCH_ITEMS = 25
LINES = 100
"""Each of them is read again at the end, which takes long enough."""
LINES_OF_PAGE = len((*LEFT_LINES, *RIGHT_LINES))
PATIENCE_SECONDS = 180.0

Item = Mapping[str, str | bool]
"""Of a list."""


class NotAcceptedError(Exception):
    """The fetcher did not answer 202 this time."""


@dataclass(frozen=True)
class Load:
    """Submitted images, by their expected key in the bucket."""

    images: Mapping[str, bytes]
    urls: Mapping[str, str]
    """Of the fetched ones, also pages: key to URL."""
    batches: Sequence[str]
    pages: Mapping[str, bytes] = field(default_factory=dict)
    """By their key in the bucket of pages; each has ``LINES_OF_PAGE``."""


def draw(seed: int) -> Iterator[bytes]:
    """Yield files that all differ, of lines that some share."""
    lines = [draw_line(f"Line {seed} no {number}", font_size=20) for number in range(LINES)]
    return (_different(lines[number % LINES], number) for number in count())


def draw_pages(pages: int) -> list[bytes]:
    """Return files that all differ, of one page."""
    page = draw_page()
    return [_different(page, number) for number in range(pages)]


def _different(image: Image.Image, number: int) -> bytes:
    comment = PngInfo()
    comment.add_text("Comment", str(number))
    return encode(image, pnginfo=comment)


def key_of(image: bytes) -> str:
    """Return the key that an image has once it is fetched."""
    digest = sha256(image).hexdigest()
    return f"fetched/{digest[:2]}/{digest}.png"


async def bring_in(
    client: Client,
    site: WebSite,
    drawn: Sequence[bytes],
    pages: Sequence[bytes],
    *,
    seed: int,
    spread: float,
) -> Load:
    """Bring images in over ``spread`` seconds, asking again whenever something does not answer."""
    images, pages_by_key, urls = dict[str, bytes](), dict[str, bytes](), dict[str, str]()
    items: list[list[Item]] = []
    uploads: list[dict[str, bytes]] = []
    for kind, files, by_key in (("image", drawn, images), ("page", pages, pages_by_key)):
        half = len(files) // 2
        fetched = {key_of(each): each for each in files[:half]}
        paths = {key: f"/{seed}/{kind}-{at}.png" for at, key in enumerate(fetched)}
        found = {key: site.add_body(paths[key], content) for key, content in fetched.items()}
        uploads.append({f"uploads/{seed}/{at}.png": each for at, each in enumerate(files[half:])})
        items.append([{"url": url, "is_page": kind == "page"} for url in found.values()])
        urls |= found
        by_key |= {**fetched, **uploads[-1]}
    batches, _, _ = await asyncio.gather(
        _submit_all(client, merge(Random(seed), *items), spread),  # noqa: S311
        _upload_all(client.store, uploads[0], spread),
        _upload_all(sibling(client.store, PAGES_BUCKET), uploads[1], spread),
    )
    return Load(images, urls, batches, pages_by_key)


async def _submit_all(client: Client, items: Sequence[Item], spread: float) -> list[str]:
    lists = [items[begin : begin + BATCH_ITEMS] for begin in range(0, len(items), BATCH_ITEMS)]
    batches = []
    for each in lists:
        batches.append(await submit(client, each))
        await asyncio.sleep(spread / len(lists))
    return batches


async def submit(client: Client, items: Sequence[Item]) -> str:
    """Submit a list, with the same key each time, until it is accepted; return the batch's id."""
    urls = "".join(str(item["url"]) for item in items)
    headers = {"Idempotency-Key": sha256(urls.encode()).hexdigest()}
    body = {"items": list(items)}
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type((NotAcceptedError, ClientError, TimeoutError)),
        wait=wait_fixed(0.5),
        stop=stop_after_delay(PATIENCE_SECONDS),
        reraise=True,
    ):
        with attempt:
            async with client.fetcher.post("/batches", json=body, headers=headers) as response:
                if response.status != 202:
                    raise NotAcceptedError(await response.text())
                return str((await response.json())["batch_id"])
    raise AssertionError("unreachable")


async def _upload_all(store: ObjectStore, uploads: Mapping[str, bytes], spread: float) -> None:
    for key, image in uploads.items():
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(ObjectStoreUnavailableError),
            wait=wait_fixed(0.5),
            stop=stop_after_delay(PATIENCE_SECONDS),
            reraise=True,
        ):
            with attempt:
                await store.write(key, image, content_type="image/png", metadata={})
        await asyncio.sleep(spread / len(uploads))
