"""Match names in tables to images, despite different spellings."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from urllib.parse import unquote

from services.common.domain.annotations import compose

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif"})
_DRIVE = re.compile(r"^[A-Za-z]:")


def canonical(name: str) -> str:
    """Normalise a path: composed characters, slashes, no prefix."""
    name = compose(name.strip()).replace("\\", "/")
    parts = [part for part in _DRIVE.sub("", name).split("/") if part not in {"", "."}]
    return "/".join(parts)


def is_image(name: str) -> bool:
    """Return whether a name has the suffix of an image."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def without_suffix(name: str) -> str:
    """Return a path without an image suffix."""
    return name[: -len(PurePosixPath(name).suffix)] if is_image(name) else name


class ImageNames:
    """Looks up images by their names."""

    def __init__(self, names: Iterable[str]) -> None:
        names = list(names)
        self._by_key: dict[str, str | None] = {}
        """By spelling; None if ambiguous."""
        for name in names:
            for key in dict.fromkeys(_keys(canonical(name))):
                known = self._by_key.setdefault(key, name)
                if known != name:
                    self._by_key[key] = None
        paths = Counter(canonical(name) for name in names)
        for name in names:  # an exact path is never ambiguous
            path = canonical(name)
            self._by_key[f"path:{path}"] = name if paths[path] == 1 else None

    def find(self, name: str, folder: str = "") -> str | None:
        """Return the path of the image of a name, or None if there is none or several.

        Args:
            name: In a table in ``folder``: relative to the folder or to the top, with or without
                folders and suffix, in any case if unambiguous.
            folder: Of the table.
        """
        found = self._find(name, folder)
        decoded = unquote(name.removeprefix("file://"))
        return self._find(decoded, folder) if found is None and decoded != name else found

    def _find(self, name: str, folder: str) -> str | None:
        wanted = canonical(name)
        if not wanted:
            return None
        beside = canonical(f"{folder}/{wanted}")
        for key in (f"path:{beside}", f"path:{wanted}", *_lookups(beside), *_lookups(wanted)):
            if key in self._by_key:
                found = self._by_key[key]
                return found if found is None or _agree(found, wanted, beside) else None
        return None


def _agree(image: str, *wanted: str) -> bool:
    """Return whether one path is a suffix of the other."""
    parts = without_suffix(canonical(image).casefold()).split("/")
    for name in wanted:
        asked = without_suffix(name.casefold()).split("/")
        shorter = min(len(parts), len(asked))
        if parts[-shorter:] == asked[-shorter:]:
            return True
    return False


def _keys(path: str) -> Iterator[str]:
    """Yield the spellings by which an image is found."""
    yield f"path:{path}"
    folded = path.casefold()
    yield f"folded:{folded}"
    yield f"stem:{without_suffix(folded)}"
    yield f"name:{PurePosixPath(folded).name}"
    yield f"name-stem:{PurePosixPath(without_suffix(folded)).name}"


def _lookups(path: str) -> Iterator[str]:
    """Yield the look-up spellings of a name, the most exact first."""
    folded = path.casefold()
    yield f"folded:{folded}"
    name = PurePosixPath(folded).name
    if is_image(folded):
        yield f"name:{name}"
    else:
        yield f"stem:{folded}"
        yield f"name-stem:{name}"
