"""A network link to a server, as slow as a test wants it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

HOST = "127.0.0.1"
_CHUNK_BYTES = 64 * 1024


@dataclass
class SlowLink:
    """Address and delay of the link; ``delay_seconds`` may change at any time."""

    port: int
    delay_seconds: float = 0.0
    """Added to each piece of an answer."""
    slow_request: bytes = b""
    """If set, only requests that have these bytes are delayed, and no answers."""

    def of_request(self, chunk: bytes) -> float:
        is_slow = self.slow_request and self.slow_request in chunk
        return self.delay_seconds if is_slow else 0.0

    def of_answer(self, _: bytes) -> float:
        return 0.0 if self.slow_request else self.delay_seconds


@asynccontextmanager
async def open_slow_link(host: str, port: int, *, own_port: int = 0) -> AsyncIterator[SlowLink]:
    """Forward connections to a server for the length of an ``async with`` block.

    Args:
        host: Of the server.
        port: Of the server.
        own_port: Where to connect; 0: one that is free.
    """
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        with suppress(OSError, asyncio.CancelledError):
            server_reader, server_writer = await asyncio.open_connection(host, port)
            try:
                async with asyncio.TaskGroup() as ways:
                    ways.create_task(_forward(reader, server_writer, link.of_request))
                    ways.create_task(_forward(server_reader, writer, link.of_answer))
            finally:
                server_writer.close()
                writer.close()

    server = await asyncio.start_server(accept, HOST, own_port)
    link = SlowLink(server.sockets[0].getsockname()[1])
    try:
        yield link
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _forward(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    delay_of: Callable[[bytes], float],
) -> None:
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK_BYTES):
            await asyncio.sleep(delay_of(chunk))
            writer.write(chunk)
            await writer.drain()
    writer.close()
