"""Decode content codings (RFC 9110, 8.4.1), within limits.

None is requested, as images are compressed already. Some servers compress nevertheless, and some
declare a coding that they did not apply: the first bytes decide.
"""

import re
import zlib
from collections.abc import Iterator
from typing import Protocol

from services.common.download.errors import FailedDownloadError, RefusedDownloadError

_PIECE_BYTES = 64 * 1024
_DEFLATE_MARK = 8
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 31, 15, -15

_NO_CODINGS = frozenset({"", "identity", "aws-chunked"})
"""``aws-chunked`` belongs to S3 uploads; some stores keep it although the bytes are decoded."""
_GZIP = frozenset({"gzip", "x-gzip"})
_REGISTERED = _GZIP | {"deflate", "br", "zstd", "compress", "x-compress", "dcb", "dcz", "exi"}
"""IANA's HTTP Content Coding Registry; other names (such as character sets) are ignored."""
_HEAD_BYTES = 512
_SIGNATURE = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|RIFF....WEBP|II[*+]\0|MM\0[*+]"
    rb"|BM....\0\0\0\0|PK\x03\x04|PAR1",
    re.DOTALL,
)
"""Magic numbers of images, zip archives and Parquet; none is produced by these codings."""
_NOT_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


class Decoder(Protocol):
    """Streaming decoder of a body."""

    def decode(self, received: bytes) -> Iterator[bytes]:
        """Yield decoded chunks of limited size."""
        ...

    def finish(self) -> Iterator[bytes]:
        """Yield the rest and check completeness."""
        ...


def decoder_for(codings: str) -> Decoder:
    """Return the decoder of a Content-Encoding.

    After the first bytes it raises ``unsupported_encoding`` for a coding that it can't decode.
    """
    names = [
        name for part in codings.split(",") if (name := part.strip().lower()) not in _NO_CODINGS
    ]
    if not names:
        return _AsItIs()
    return _Decoder(names)


class _AsItIs:
    def decode(self, received: bytes) -> Iterator[bytes]:
        yield received

    def finish(self) -> Iterator[bytes]:
        """Do nothing: the client checks completeness."""
        yield from ()


class _Decoder:
    """Decodes one coding, or passes bytes on if the first ones show that it was not applied.

    Args:
        names: Of the codings, in the declared order.
    """

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._head = b""
        self._decoder: Decoder | None = None

    def decode(self, received: bytes) -> Iterator[bytes]:
        if self._decoder is None:
            self._head += received
            if len(self._head) < _HEAD_BYTES:
                return
            received, self._head = self._head, b""
            self._decoder = self._choose(received)
        yield from self._decoder.decode(received)

    def finish(self) -> Iterator[bytes]:
        if self._decoder is None:
            if not self._head:
                return
            self._decoder = self._choose(self._head)
            yield from self._decoder.decode(self._head)
        yield from self._decoder.finish()

    def _choose(self, head: bytes) -> Decoder:
        if _SIGNATURE.match(head):
            return _AsItIs()
        if len(self._names) == 1:
            (name,) = self._names
            if name in _GZIP or name == "deflate":
                return _Inflater(is_gzip=name in _GZIP)
        if _REGISTERED.isdisjoint(self._names) and not _NOT_TEXT.search(head[:_HEAD_BYTES]):
            return _AsItIs()
        raise RefusedDownloadError(
            "unsupported_encoding", f"unsupported Content-Encoding: {', '.join(self._names)[:50]}"
        )


class _Inflater:
    """Decodes gzip, zlib, and the raw deflate that some servers send instead."""

    def __init__(self, *, is_gzip: bool) -> None:
        self._is_gzip = is_gzip
        self._inflate: zlib._Decompress | None = None

    def decode(self, received: bytes) -> Iterator[bytes]:
        inflate = self._inflate or self._begin(received[0])
        self._inflate = inflate
        while received:
            if inflate.eof:
                raise _incomplete_body()
            try:
                yield inflate.decompress(received, _PIECE_BYTES)
            except zlib.error as error:
                raise _incomplete_body() from error
            received = inflate.unconsumed_tail or inflate.unused_data

    def finish(self) -> Iterator[bytes]:
        if self._inflate and not self._inflate.eof:
            raise _incomplete_body()
        yield from ()

    def _begin(self, first: int) -> "zlib._Decompress":
        if self._is_gzip:
            return zlib.decompressobj(_GZIP_BITS)
        return zlib.decompressobj(_ZLIB_BITS if first & 0xF == _DEFLATE_MARK else _RAW_BITS)


def _incomplete_body() -> FailedDownloadError:
    return FailedDownloadError("incomplete_body", "incomplete or corrupt response body")
