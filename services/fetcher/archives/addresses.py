"""Where the members of archives are: at the archive's URL and ``#member``."""

from urllib.parse import quote, unquote

_ENDS = (".zip", ".tar", ".tgz", ".tar.gz")


def member_url(archive_url: str, name: str) -> str:
    """Return the source URL of a member."""
    return f"{archive_url}#{quote(name, safe='/')}"


def split_member(url: str) -> tuple[str, str]:
    """Return the archive's URL and the member's name; the latter is empty for any other URL."""
    archive_url, _, member = url.partition("#")
    return archive_url, unquote(member)


def is_archive_path(path: str) -> bool:
    """Return whether a URL's path ends as an archive's does: its fragment then names a member."""
    return path.lower().endswith(_ENDS)
