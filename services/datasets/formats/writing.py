"""What every layout can do: take an image with its label."""

from typing import Protocol

from services.datasets.manifest import Record


class Writer(Protocol):
    """Lays out images in a folder, in the order in which they come."""

    def add(self, record: Record, content: bytes, extension: str) -> None:
        """Take one image.

        Args:
            record: What is known of it.
            content: Its file: as it was collected, or rewritten.
            extension: Of its format, without a dot.
        """
        ...

    def finish(self) -> None:
        """Write what can only be written in the end."""
        ...


def file_name(record: Record, extension: str) -> str:
    """Return the name of an image's file: nothing in it is by a stranger."""
    return f"{record.sha256}.{extension}"
