"""Pages of alerts, at the addresses that alerts name: meaning and what to do."""

import re
from pathlib import Path

from fastapi import APIRouter, Response
from markupsafe import Markup, escape

from services.common.runtime.problems import ProblemError
from services.review.access import CurrentUser, StateDep

GUIDE = Path("docs", "monitoring.md")
FOLDERS = (Path(__file__).parents[3], Path.cwd())
"""A clone, or the working directory of the container image."""
_SECTION = re.compile(r"^### (\w+)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
_MARKS = ((r"`([^`]+)`", r"<code>\1</code>"), (r"\*([^*\n]+)\*", r"<em>\1</em>"))

router = APIRouter()


@router.get("/alerts/{name}")
async def alert_page(state: StateDep, user: CurrentUser, name: str) -> Response:
    """Show what an alert means and what to do."""
    guides = (path for folder in FOLDERS if (path := folder / GUIDE).is_file())
    text = next((path.read_text(encoding="utf-8") for path in guides), "")
    sections = {title.lower(): (title, body) for title, body in _SECTION.findall(text)}
    if name.lower() not in sections:
        raise ProblemError(
            404, "alert_not_found", "no such alert is described in docs/monitoring.md"
        )
    title, body = sections[name.lower()]
    return state.templates.render("alert", user, title=title, paragraphs=to_paragraphs(body))


def to_paragraphs(text: str) -> list[Markup]:
    """Convert the paragraphs and steps of a section; links of the guide lead nowhere here."""
    joined = re.sub(r"\n(?!\n|\d+\. )\s*", " ", _LINK.sub(r"\1", text).strip())
    made = []
    for paragraph in filter(str.strip, joined.splitlines()):
        marked = str(escape(paragraph.strip()))
        for pattern, replacement in _MARKS:
            marked = re.sub(pattern, replacement, marked)
        made.append(Markup(marked))  # noqa: S704  escaped above
    return made
