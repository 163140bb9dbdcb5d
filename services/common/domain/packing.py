"""Stream files as a tar archive (POSIX.1-2017, pax) in constant memory."""

import tarfile

END = bytes(2 * tarfile.BLOCKSIZE)
"""End of an archive."""


def tar_member(name: str, content: bytes) -> bytes:
    """Return a file with header and padding (deterministic)."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return header + content + bytes(-len(content) % tarfile.BLOCKSIZE)
