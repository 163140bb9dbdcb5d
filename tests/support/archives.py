"""Archives of files that a test names, and a host that answers with one."""

import asyncio
import tarfile
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from io import BytesIO

from services.common.download.errors import RefusedDownloadError


def zip_of(files: Mapping[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, body in files.items():
            archive.writestr(zipfile.ZipInfo(name), body, compression)
    return content.getvalue()


def tar_of(files: Mapping[str, bytes], mode: str = "w") -> bytes:
    content = BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:  # type: ignore[call-overload]
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, BytesIO(body))
    return content.getvalue()


def tgz_of(files: Mapping[str, bytes]) -> bytes:
    return tar_of(files, "w:gz")


class Host:
    """Answers every URL with the same archive, or never."""

    def __init__(self, content: bytes | None) -> None:
        self._content = content
        self.downloads: Counter[str] = Counter()

    @asynccontextmanager
    async def stream(self, url: str, *, max_bytes: int) -> AsyncIterator[AsyncIterator[bytes]]:
        self.downloads[url] += 1

        async def pieces() -> AsyncIterator[bytes]:
            await asyncio.sleep(0)
            if self._content is None:
                await asyncio.Event().wait()
            if len(self._content or b"") > max_bytes:
                raise RefusedDownloadError("too_large", f"more than {max_bytes} bytes")
            yield self._content or b""

        yield pieces()
