"""Addresses of items without a URL: members of archives, and submitted files.

A member's address is the archive's URL and ``#member``. A submitted file's address is
``submitted:<digest>/<file name>``, and that of its members adds ``#member``. The digest is a
capability: it can't be guessed without the file or the batch's list, and gives access to the file
(docs/decisions/0035-submitted-files.md).

The address of a line of a page is the page's and ``?transcript=<member>&line=<id>&page=<digest>``.
The digest is of both files: the URL may have another page by the time that lines are cut out.
"""

import re
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import quote, unquote

from services.common.domain.provenance import SUBMITTED

_ENDS = (".zip", ".tar", ".tgz", ".tar.gz")
_ALL_ENDS = re.compile(
    r"(\.(zip|tar|tgz|txt|csv|tsv|tab|json|jsonl|ndjson|parquet|mdb))?(\.gz)?$", re.IGNORECASE
)
_SUBMITTED = re.compile(rf"{SUBMITTED}([0-9a-f]{{64}})/([A-Za-z0-9%._~-]+)(#[!-~]+)?")

_LINE = re.compile(r"\?transcript=([!-%'-~]+)&line=([!-%'-~]+?)(?:&page=([0-9a-f]{32}))?$")
"""``&`` stands between both alone: in a value it is percent-encoded."""


class LineAddress(NamedTuple):
    """Address of a line of a page."""

    transcript: str
    """Member with the transcription of the page."""
    line: str
    """Its id there."""
    page: str = ""
    """Digest of the page and its transcription; earlier versions had none."""


def member_url(archive_url: str, name: str) -> str:
    """Return the source URL of a member."""
    return f"{archive_url}#{quote(name, safe='/')}"


def split_member(url: str) -> tuple[str, str]:
    """Return the archive's URL and the member's name; the latter is empty for any other URL."""
    archive_url, _, member = url.partition("#")
    return archive_url, unquote(_LINE.sub("", member))


def line_url(page_url: str, address: LineAddress) -> str:
    """Return the address of a line of a page that is a member."""
    transcript, line = (quote(each, safe="/") for each in address[:2])
    page = f"&page={address.page}" if address.page else ""
    return f"{page_url}?transcript={transcript}&line={line}{page}"


def split_line(url: str) -> LineAddress | None:
    """Return which line of the member an address is of; None: it is of the whole member."""
    found = _LINE.search(url.partition("#")[2])
    return LineAddress(unquote(found[1]), unquote(found[2]), found[3] or "") if found else None


def is_archive_path(path: str) -> bool:
    """Return whether a URL's path has an archive's suffix: its fragment then names a member."""
    return path.lower().endswith(_ENDS)


def submitted_url(digest: str, file_name: str) -> str:
    """Return the address of a submitted file."""
    return f"{SUBMITTED}{digest}/{quote(file_name, safe='') or 'file'}"


def is_submitted(url: str) -> bool:
    """Return whether an address is of a submitted file."""
    return url.startswith(SUBMITTED)


def submitted_digest(url: str) -> str | None:
    """Return the submitted file of an address, or None if it is malformed."""
    found = _SUBMITTED.fullmatch(url)
    return found[1] if found else None


def own_name(url: str) -> str | None:
    """Return the pseudo-host of a submitted file; None for a real host."""
    return url.partition("/")[0] if is_submitted(url) else None


def name_of(url: str) -> str | None:
    """Return the displayed name of an item: path of the member, or name of the file."""
    address, member = split_member(url)
    if member:
        line = split_line(url)
        return f"{member}#{line.line}" if line else member
    return unquote(PurePosixPath(address).name) if is_submitted(url) else None


def stem_of(path: str) -> str:
    """Return the name of a file without folders and suffixes: ``scans`` of ``a/scans.tar.gz``."""
    return _ALL_ENDS.sub("", PurePosixPath(path.replace("\\", "/")).name)
