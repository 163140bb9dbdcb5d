"""Images that enter while programs fail: half by the fetcher, half straight into the bucket."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count

from aiohttp import ClientError
from PIL.PngImagePlugin import PngInfo
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from services.common.domain.errors import ObjectStoreUnavailableError
from tests.support.images import draw_line, encode
from tests.support.pipeline import Client
from tests.support.web import WebSite

BATCH_ITEMS = 25
LINES = 100
"""Each of them is read again at the end, which takes long enough."""
PATIENCE_SECONDS = 180.0


class NotAcceptedError(Exception):
    """The fetcher did not answer 202 this time."""


@dataclass(frozen=True)
class Load:
    """Submitted images, by their expected key in the bucket."""

    images: Mapping[str, bytes]
    urls: Mapping[str, str]
    """Of the fetched ones: key to URL."""
    batches: Sequence[str]


def draw(seed: int) -> Iterator[bytes]:
    """Yield files that all differ, of lines that some share."""
    lines = [draw_line(f"Line {seed} no {number}", font_size=20) for number in range(LINES)]
    for number in count():
        comment = PngInfo()
        comment.add_text("Comment", str(number))
        yield encode(lines[number % LINES], pnginfo=comment)


def key_of(image: bytes) -> str:
    """Return the key that an image has once it is fetched."""
    digest = sha256(image).hexdigest()
    return f"fetched/{digest[:2]}/{digest}.png"


async def bring_in(
    client: Client, site: WebSite, drawn: Sequence[bytes], *, seed: int, spread: float
) -> Load:
    """Bring images in over ``spread`` seconds, asking again whenever something does not answer."""
    half = len(drawn) // 2
    fetched, uploaded = drawn[:half], drawn[half:]
    urls: dict[str, str] = {}
    images: dict[str, bytes] = {}
    for number, image in enumerate(fetched):
        key = key_of(image)
        urls[key] = site.add_body(f"/{seed}/{number}.png", image)
        images[key] = image
    uploads = {f"uploads/{seed}/{number}.png": image for number, image in enumerate(uploaded)}
    batches, _ = await asyncio.gather(
        _submit_all(client, list(urls.values()), spread), _upload_all(client, uploads, spread)
    )
    return Load({**images, **uploads}, urls, batches)


async def _submit_all(client: Client, urls: Sequence[str], spread: float) -> list[str]:
    pages = [urls[begin : begin + BATCH_ITEMS] for begin in range(0, len(urls), BATCH_ITEMS)]
    batches = []
    for page in pages:
        batches.append(await submit(client, [{"url": url} for url in page]))
        await asyncio.sleep(spread / len(pages))
    return batches


async def submit(client: Client, items: Sequence[Mapping[str, str]]) -> str:
    """Submit a list, with the same key each time, until it is accepted; return the batch's id."""
    urls = "".join(item["url"] for item in items)
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


async def _upload_all(client: Client, uploads: Mapping[str, bytes], spread: float) -> None:
    for key, image in uploads.items():
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(ObjectStoreUnavailableError),
            wait=wait_fixed(0.5),
            stop=stop_after_delay(PATIENCE_SECONDS),
            reraise=True,
        ):
            with attempt:
                await client.store.write(key, image, content_type="image/png", metadata={})
        await asyncio.sleep(spread / len(uploads))
