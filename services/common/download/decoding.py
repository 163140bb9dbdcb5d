"""Undoes content codings (RFC 9110, 8.4.1), within limits.

None is asked for, as images are packed already; some servers pack all the same.
"""

import zlib
from collections.abc import Iterator
from typing import Protocol

from services.common.download.errors import FailedDownloadError, RefusedDownloadError

_PIECE_BYTES = 64 * 1024
_DEFLATE_MARK = 8
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 31, 15, -15


class Decoder(Protocol):
    """Turns what is received into what was meant."""

    def decode(self, received: bytes) -> Iterator[bytes]:
        """Give pieces of limited size."""
        ...

    def finish(self) -> None:
        """Check that all is there."""
        ...


def decoder_for(coding: str) -> Decoder:
    """Return what undoes a Content-Encoding.

    Raises:
        RefusedDownloadError: Nothing does.
    """
    name = coding.strip().lower()
    if name in {"", "identity"}:
        return _AsItIs()
    if name in {"gzip", "x-gzip", "deflate"}:
        return _Inflater(is_gzip=name != "deflate")
    raise RefusedDownloadError("unsupported_encoding", f"it is packed, unasked, as {coding[:50]}")


class _AsItIs:
    def decode(self, received: bytes) -> Iterator[bytes]:
        yield received

    def finish(self) -> None:
        """Whether all is there, the client has seen."""


class _Inflater:
    """Undoes gzip, zlib, and the bare deflate that some servers send in its place."""

    def __init__(self, *, is_gzip: bool) -> None:
        self._is_gzip = is_gzip
        self._inflate: zlib._Decompress | None = None

    def decode(self, received: bytes) -> Iterator[bytes]:
        inflate = self._inflate or self._begin(received[0])
        self._inflate = inflate
        while received:
            if inflate.eof:
                raise _garbled()
            try:
                yield inflate.decompress(received, _PIECE_BYTES)
            except zlib.error as error:
                raise _garbled() from error
            received = inflate.unconsumed_tail or inflate.unused_data

    def finish(self) -> None:
        if self._inflate and not self._inflate.eof:
            raise _garbled()

    def _begin(self, first: int) -> "zlib._Decompress":
        if self._is_gzip:
            return zlib.decompressobj(_GZIP_BITS)
        return zlib.decompressobj(_ZLIB_BITS if first & 0xF == _DEFLATE_MARK else _RAW_BITS)


def _garbled() -> FailedDownloadError:
    return FailedDownloadError("incomplete_body", "the answer broke off, or is garbled")
