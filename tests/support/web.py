"""A small web server on loopback, for tests to fetch from."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from io import BytesIO

from aiohttp import web
from PIL import Image
from yarl import URL

from tests.support.waiting import deadline

NO_ROBOTS = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebSite:
    """Responses of the server; paths may be added and changed while it runs.

    Attributes:
        hits: Requests by path.
    """

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.hits: Counter[str] = Counter()
        self._handlers: dict[str, Handler] = {}

    def url(self, path: str) -> str:
        return f"{self.base_url}{path}"

    def add(self, path: str, handler: Handler) -> str:
        """Serve a path by a handler; return its URL."""
        self._handlers[path] = handler
        return self.url(path)

    def add_body(
        self, path: str, body: bytes, *, status: int = 200, content_type: str = "image/png"
    ) -> str:
        """Serve a path by fixed bytes; return its URL."""

        async def handle(_: web.Request) -> web.Response:
            return web.Response(body=body, status=status, content_type=content_type)

        return self.add(path, handle)

    def add_redirect(self, path: str, location: str, *, status: int = 302) -> str:
        """Redirect a path; return its URL."""

        async def handle(_: web.Request) -> web.Response:
            return web.Response(status=status, headers={"Location": location})

        return self.add(path, handle)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.hits[request.path] += 1
        handler = self._handlers.get(request.path)
        if handler is None:
            return web.Response(status=404, text="no such page")
        return await handler(request)


@asynccontextmanager
async def open_site(host: str = "127.0.0.1") -> AsyncIterator[WebSite]:
    """Serve on a free port for the length of an ``async with`` block."""
    application = web.Application()
    runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
    site = WebSite("")
    application.router.add_route("*", "/{path:.*}", site.answer)
    await runner.setup()
    listener = web.TCPSite(runner, host, 0)
    await listener.start()
    port = runner.addresses[0][1]
    site.base_url = f"http://{host}:{port}"
    try:
        yield site
    finally:
        await runner.cleanup()


def png(number: int) -> bytes:
    """Make an image that differs from those of other numbers."""
    image = Image.new("RGB", (32, 16), (number % 256, number // 256 % 256, 7))
    content = BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


@asynccontextmanager
async def open_raw_server(answer: bytes, *, stays_open: bool = False) -> AsyncIterator[str]:
    """Answer every connection with these very bytes, valid HTTP or not; yield the base URL.

    It has no robots.txt, and says so.
    """
    idle = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = await reader.read(20)
            writer.write(NO_ROBOTS if asked.startswith(b"GET /robots.txt") else answer)
            await writer.drain()
            if stays_open:
                await idle.wait()
        except ConnectionError:
            pass  # the client had enough
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}/"
    finally:
        idle.set()
        server.close()


async def exchange(url: str | URL, headers: list[str], body: bytes) -> bytes:
    """Post bytes as they are, and return the beginning of the answer as it is."""
    address = URL(url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    start = [f"POST {address.raw_path} HTTP/1.1", f"Host: {address.authority}", *headers]
    writer.write("\r\n".join([*start, "", ""]).encode() + body)
    try:
        async with deadline():
            return await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


TWO_LENGTHS = ["Content-Length: 10", "Transfer-Encoding: chunked"]
FORM_TYPE = "Content-Type: application/x-www-form-urlencoded"


def chunked(body: bytes) -> bytes:
    """Return a body as one chunk."""
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
