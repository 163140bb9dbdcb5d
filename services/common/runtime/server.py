"""Run a FastAPI app with uvicorn in the service's event loop, with a limit of request bodies.

Bodies are limited by the bytes received, not by their headers: a request with Content-Length and
Transfer-Encoding has two lengths (RFC 9112, 6.3): h11, which uvicorn runs on, believes the latter,
and a limit that reads the former is passed by any body.
"""

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI, Request
from starlette.datastructures import FormData, Headers
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.domain.sizes import MEBIBYTE
from services.common.runtime.access import Refuse, as_problem
from services.common.runtime.problems import ProblemError

TooLarge = Callable[[int], Exception]
"""Builds the error of a body that exceeds its limit."""
Malformed = Callable[[str], Exception]
"""Builds the error of a form that can't be parsed, by the reason."""


def http_server(
    app: FastAPI, *, host: str, port: int, drain_seconds: float = 20.0
) -> uvicorn.Server:
    """Build a server without its own handling of signals and logging."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=int(drain_seconds),
        server_header=False,
    )
    return uvicorn.Server(config)


async def serve_until(stop: asyncio.Event, server: uvicorn.Server) -> None:
    """Serve until ``stop`` is set.

    Raises:
        RuntimeError: The server ended by itself, for instance as its port is in use.
    """

    async def ask_to_stop() -> None:
        await stop.wait()
        server.should_exit = True

    watcher = asyncio.create_task(ask_to_stop())
    try:
        # serve() would replace the service's signal handlers, _serve() does not
        await server._serve()  # noqa: SLF001
    finally:
        watcher.cancel()
    if not stop.is_set():
        raise RuntimeError("the HTTP server ended by itself")


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def too_large(max_bytes: int) -> ProblemError:
    """Describe a body of more than ``max_bytes``."""
    return ProblemError(413, "too_large", f"the request has more than {max_bytes} bytes")


async def bounded_body(
    request: Request,
    max_bytes: int,
    too_large: TooLarge,
    reserve: Callable[[int], None] = lambda _: None,
) -> AsyncGenerator[bytes, None]:
    """Yield the body of a request in chunks, at most ``max_bytes`` in all.

    ``reserve`` is called with the size of each chunk, before it is yielded.

    Raises:
        Exception: From ``too_large``, before the first chunk if Content-Length is too large; or
            from ``reserve``.
    """
    limit = _Limit(max_bytes, too_large)
    limit.check_declared(request.headers)
    async for piece in request.stream():
        limit.take(len(piece))
        reserve(len(piece))
        yield piece


@dataclass(frozen=True)
class FormLimits:
    """Limits of a form, beside that of its body."""

    fields: int
    field_bytes: int
    files: int = 1
    memory_bytes: int = MEBIBYTE
    """A larger file is on disk."""


async def read_form(
    request: Request, body: AsyncGenerator[bytes, None], limits: FormLimits, malformed: Malformed
) -> FormData:
    """Parse a ``multipart/form-data`` body; the caller closes the form.

    Raises:
        Exception: From ``malformed``, or from ``body``.
    """
    parser = MultiPartParser(
        request.headers,
        body,
        max_files=limits.files,
        max_fields=limits.fields,
        max_part_size=limits.field_bytes,
    )
    parser.spool_max_size = limits.memory_bytes
    async with aclosing(body):
        try:
            return await parser.parse()
        except (MultiPartException, KeyError, ValueError) as error:  # its charset may raise
            raise malformed(str(error)) from error


class BodyGuard:
    """ASGI middleware: refuse a body whose length is ambiguous, or more than its route takes.

    Args:
        limit_of: Largest body by path; None: the route has its own limit.
        refuse: Builds the response of a refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limit_of: Callable[[str], int | None] = lambda _: None,
        refuse: Refuse = as_problem,
    ) -> None:
        self._app = app
        self._limit_of = limit_of
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on with a counted body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes = self._limit_of(scope["path"])
        limit = None if max_bytes is None else _Limit(max_bytes, too_large)
        try:
            headers = Headers(scope=scope)
            _check_framing(headers)
            if limit is not None:
                limit.check_declared(headers)
        except ProblemError as error:
            response = await self._refuse(Request(scope, receive), error)
            response.headers["Connection"] = "close"  # against request smuggling
            await response(scope, receive, send)
            return
        await self._app(scope, receive if limit is None else limit.counting(receive), send)


class _Limit:
    """Counts the bytes of one body."""

    def __init__(self, max_bytes: int, too_large: TooLarge) -> None:
        self._max_bytes = max_bytes
        self._too_large = too_large
        self._received = 0

    def check_declared(self, headers: Headers) -> None:
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._max_bytes:
            raise self._too_large(self._max_bytes)

    def take(self, size: int) -> None:
        self._received += size
        if self._received > self._max_bytes:
            raise self._too_large(self._max_bytes)

    def counting(self, receive: Receive) -> Receive:
        async def counted() -> Message:
            message = await receive()
            self.take(len(message.get("body", b"")))
            return message

        return counted


def _check_framing(headers: Headers) -> None:
    if "transfer-encoding" in headers and "content-length" in headers:
        detail = "the request has both Content-Length and Transfer-Encoding"
        raise ProblemError(400, "ambiguous_length", detail)
