"""Write files as a tar (POSIX.1-2017, pax), piece by piece: of any length, in little memory."""

import tarfile

END = bytes(2 * tarfile.BLOCKSIZE)
"""Ends an archive."""


def tar_member(name: str, content: bytes) -> bytes:
    """Return a file with its header and padding; the same file gives the same bytes."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return header + content + bytes(-len(content) % tarfile.BLOCKSIZE)
