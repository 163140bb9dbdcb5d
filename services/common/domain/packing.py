"""Write files as a tar (POSIX.1-2017, pax), piece by piece: of any length, in little memory."""

import tarfile

END = bytes(2 * tarfile.BLOCKSIZE)
"""Ends an archive."""


def tar_header(name: str, size: int) -> bytes:
    """Return what comes before the content of a file; the same file gives the same bytes."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def tar_padding(size: int) -> bytes:
    """Return what comes after a content of ``size`` bytes."""
    return bytes(-size % tarfile.BLOCKSIZE)
