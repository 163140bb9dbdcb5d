"""The pages: links resolve, each page is reached from the README, each decision is in the index."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.support.compose import ROOT

README = ROOT / "README.md"
DECISIONS = ROOT / "docs/decisions"
INDEX = DECISIONS / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
EACH = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def without_code(page: Path) -> str:
    return re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def links(page: Path) -> list[tuple[Path, str]]:
    """Return the files of the tree that a page links to, each with its fragment."""
    found = re.findall(r"\]\(([^()\s]+)\)", without_code(page))
    local = [link.partition("#") for link in found if not re.match(r"https?:|mailto:", link)]
    return [
        ((page.parent / unquote(path)).resolve() if path else page, fragment)
        for path, _, fragment in local
    ]


def fragments(page: Path) -> set[str]:
    """Return the fragments of a page's headings, as GitHub makes them."""
    headings = HEADING.findall(without_code(page))
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}


@EACH
def test_links_resolve(page: Path) -> None:
    broken = [
        f"{target}#{fragment}"
        for target, fragment in links(page)
        if not target.exists() or (fragment and fragment not in fragments(target))
    ]

    assert broken == []


@EACH
def test_paths_of_modules_and_scripts_exist(page: Path) -> None:
    named = re.findall(r"`((?:app|services|infra|tests)/[\w./]+)`", page.read_text())

    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_page_is_reachable_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [README]
    while waiting:
        page = waiting.pop()
        if page.suffix == ".md" and page.exists() and page not in reached:
            reached.add(page)
            waiting += [target for target, _ in links(page)]

    assert set(PAGES) - reached == set()


def test_every_decision_is_in_the_index() -> None:
    rows = re.findall(
        r"^\| (\d{4}) \| \[(.+)\]\((.+)\) \| .+ \| (.+) \| (.+) \|$",
        INDEX.read_text(),
        re.MULTILINE,
    )
    pages = sorted(DECISIONS.glob("[0-9]*.md"))
    heads = [
        re.match(
            r"# (\d{4})\. (.+)\n\n- Status: (.+)\n- Date: (\d{4}-\d\d-\d\d)\n", page.read_text()
        )
        for page in pages
    ]

    assert all(heads)
    expected = [
        (head[1], head[2], page.name, head[3], head[4])
        for head, page in zip(heads, pages, strict=True)
        if head
    ]
    assert rows == expected
    assert set(DECISIONS.iterdir()) == {*pages, INDEX}
    assert [int(row[0]) for row in rows] == list(range(1, len(pages) + 1))


def sources() -> Iterator[Path]:
    """Yield the files of the tree, without environments, caches and other hidden folders."""
    for top in ROOT.iterdir():
        if top.is_file():
            yield top
        elif not top.name.startswith("."):
            yield from (path for path in top.rglob("*") if path.is_file())


def test_every_decision_is_named_where_it_applies() -> None:
    named: set[str] = set()
    explained: set[str] = set()
    for path in sources():
        if path.parent != DECISIONS and path.suffix != ".pyc":
            found = re.findall(r"decisions/([a-z0-9-]+\.md)", path.read_text(errors="ignore"))
            named |= {*found}
            explained |= {*found} if ROOT / "docs" not in path.parents else set()

    pages = DECISIONS.glob("[0-9]*.md")
    accepted = {page.name for page in pages if "- Status: accepted" in page.read_text()}
    assert named == accepted
    assert accepted - explained == set()
