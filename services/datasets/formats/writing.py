"""Interface of layouts."""

from typing import Protocol

from services.datasets.manifest import Record


class Writer(Protocol):
    """Writes images to a folder, in order."""

    def add(self, record: Record, content: bytes, extension: str) -> None:
        """Write one image.

        Args:
            record: Its record.
            content: Its file, original or rewritten.
            extension: Of its format, without a dot.
        """
        ...

    def finish(self) -> None:
        """Finish writing."""
        ...


def file_name(record: Record, extension: str) -> str:
    """Return the name of an image's file, without untrusted parts."""
    return f"{record.sha256}.{extension}"
