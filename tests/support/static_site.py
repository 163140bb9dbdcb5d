"""A fast web site of distinct small images, in a process of its own, on many addresses.

``python -m tests.support.static_site PORT HOSTS DEAD SLOW FOLDER`` listens on 127.1.0.1,
127.1.0.2, …: the first ``DEAD`` hosts never answer, the next ``SLOW`` send 1 kB/s. The image of the
path ``/…/17.png`` is the 17th of the folder, beginning again at its end; with an empty
FOLDER all are equal.
"""

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath

from PIL import Image
from typing_extensions import override

SLOW_BYTES_PER_SECOND = 1000
WIDTH, HEIGHT = 200, 40


def host(number: int) -> str:
    """Return the address of a host."""
    return f"127.1.{number // 250}.{number % 250 + 1}"


def base_image() -> bytes:
    """Return a PNG of about 8 kB: noise, as a scan's grain is."""
    pixels = random.Random(7).randbytes(WIDTH * HEIGHT)  # noqa: S311
    content = BytesIO()
    Image.frombytes("L", (WIDTH, HEIGHT), pixels).save(content, "PNG")
    return content.getvalue()


class Answers(asyncio.Protocol):
    """Answers GET requests on one connection; what comes behind an image makes it distinct."""

    def __init__(self, images: Sequence[bytes], kind: str) -> None:
        self._images = images
        self._kind = kind
        self._transport: asyncio.Transport
        self._received = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @override
    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received and self._kind != "dead":
            request, _, self._received = self._received.partition(b"\r\n\r\n")
            self._answer(request.split(b" ", 2)[1])

    def _answer(self, path: bytes) -> None:
        if path == b"/robots.txt":
            self._transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        number = int(PurePosixPath(path.decode()).stem)
        body = self._images[number % len(self._images)] + path
        etag = b"".join(b"%02x" % each for each in path[-16:])
        head = b'HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nETag: "%s"\r\n' % etag
        self._transport.write(head + b"Content-Length: %d\r\n\r\n" % len(body))
        if self._kind == "slow":
            self._trickle(body)
        else:
            self._transport.write(body)

    def _trickle(self, body: bytes) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(body[:SLOW_BYTES_PER_SECOND])
        if rest := body[SLOW_BYTES_PER_SECOND:]:
            asyncio.get_running_loop().call_later(1, self._trickle, rest)


def images_of(folder: str) -> list[bytes]:
    """Return the images of a folder, or the same one for all paths."""
    files = sorted(Path(folder).iterdir()) if folder else []
    return [each.read_bytes() for each in files] or [base_image()]


async def serve(images: Sequence[bytes], port: int, hosts: int, dead: int, slow: int) -> None:
    """Serve for ever."""
    loop = asyncio.get_running_loop()
    for number in range(hosts):
        kind = "dead" if number < dead else "slow" if number < dead + slow else "fast"
        await loop.create_server(partial(Answers, images, kind), host(number), port)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


@contextmanager
def static_site(
    port: int, *, hosts: int, dead: int = 0, slow: int = 0, folder: Path | None = None
) -> Iterator[None]:
    """Run the site for the length of a ``with`` block."""
    given = [str(each) for each in (port, hosts, dead, slow, folder or "")]
    command = [sys.executable, "-m", "tests.support.static_site", *given]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603  this very module
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    try:
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    *numbers, folder = sys.argv[1:]
    asyncio.run(serve(images_of(folder), *map(int, numbers)))
