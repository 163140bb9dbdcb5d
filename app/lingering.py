"""Linger on close, so that a client refused in the middle of its upload gets the response."""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = 2.0
MOST_BYTES = 64 * 1024 * 1024
_CLOSE = (b"connection", b"close")


class LingeringClose:
    """ASGI middleware: drain the rest of an upload after the response, within limits.

    A connection that is closed while bytes arrive is reset (RFC 9112, section 9.6), and many
    clients then report that instead of the response. uvicorn drains by itself, except where the
    client sent ``Connection: close``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or _CLOSE not in scope["headers"]:
            await self._app(scope, receive, send)
            return
        upload = _Upload(receive)

        async def answer(message: Message) -> None:
            is_last = message["type"] == "http.response.body" and not message.get("more_body")
            if is_last and not upload.is_over:
                await send({**message, "more_body": True})  # the complete response, for the client
                await upload.forget()
                message = {"type": "http.response.body"}
            await send(message)

        await self._app(scope, upload.receive, answer)


class _Upload:
    """The body of a request, read to its end or to the limits."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_over = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.is_over = self.is_over or not message.get("more_body", False)
        return message

    async def forget(self) -> None:
        size = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(SECONDS):
                while not self.is_over and size < MOST_BYTES:
                    size += len((await self.receive()).get("body", b""))
