"""A small web site of the sample images, on its own loopback address.

The fetcher refuses non-public addresses. Only this one is allowed
(``FETCHER_ALLOWED_PRIVATE_NETWORKS``), so it can't reach other servers of this machine.
"""

import argparse
import asyncio
import csv
import mimetypes
import signal
import sys
from io import StringIO
from pathlib import Path

from aiohttp import web

FOLDER = Path(__file__).resolve().parent / "samples" / "site"
"""Served files, drawn by ``infra/local/samples/make.py``."""
LIST_NAME = "list.csv"
PAGE_FILE = FOLDER.parent / "lettre.png"
"""A page, which ``run_local.sh`` submits as a file."""
SITE_HOST = "127.0.0.80"
NETWORK = f"{SITE_HOST}/32"


def site_url(port: int, name: str = LIST_NAME) -> str:
    """Return the address of a file of the site."""
    return f"http://{SITE_HOST}:{port}/{name}"


def absolute_list(content: str, base_url: str) -> str:
    """Return a list with absolute URLs."""
    rows = csv.DictReader(StringIO(content))
    text = StringIO()
    writer = csv.DictWriter(text, rows.fieldnames or ["url"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, "url": base_url + row["url"]})
    return text.getvalue()


def build_site() -> web.Application:
    """Build the site: the list at ``/`` and under its name, and every file of ``FOLDER``.

    The files are read now and looked up by name, so no path can leave the folder.
    """
    files = {path.name: path.read_bytes() for path in FOLDER.iterdir()}

    async def serve_list(request: web.Request) -> web.Response:
        base_url = f"{request.scheme}://{request.host}/"
        text = absolute_list(files[LIST_NAME].decode(), base_url)
        return web.Response(text=text, content_type="text/csv")

    async def serve_file(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in files:
            raise web.HTTPNotFound(text="no such file")
        content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return web.Response(body=files[name], content_type=content_type)

    app = web.Application()
    app.router.add_get("/", serve_list)
    app.router.add_get(f"/{LIST_NAME}", serve_list)
    app.router.add_get("/{name}", serve_file)
    return app


async def _serve(host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(build_site(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        await stop.wait()
    finally:
        await runner.cleanup()


def main() -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.site", description=__doc__)
    parser.add_argument("--host", default=SITE_HOST)
    parser.add_argument("--port", type=int, default=8090)
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.host, arguments.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
