"""Run a FastAPI app with uvicorn in the service's event loop."""

import asyncio
import signal

import uvicorn
from fastapi import FastAPI


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
