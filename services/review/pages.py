"""Render HTML templates, with untrusted text escaped."""

from datetime import datetime
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import ChainableUndefined, Environment, PackageLoader

from services.common.domain.annotations import as_typed
from services.review.sessions import Session, Sessions

ABSENT = "none"


class Pages:
    """Renders templates.

    Args:
        sessions: Makes the forms' token.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._environment = Environment(
            loader=PackageLoader("services.review"),
            autoescape=True,
            undefined=ChainableUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {"score": as_score, "share": as_share, "time": as_time}
        self._environment.filters |= {"number": as_number, "typed": as_typed}
        self._environment.tests["web"] = is_web_address

    def page(
        self, template: str, session: Session | None, *, status: int = 200, **context: Any
    ) -> HTMLResponse:
        """Return a page."""
        token = self._sessions.token(session) if session else ""
        source = self._environment.get_template(f"{template}.html.j2")
        html = source.render(session=session, token=token, here=template, **context)
        return HTMLResponse(html, status_code=status)


def as_score(value: object) -> str:
    """Format a score; accept invalid values."""
    return f"{value:.3f}" if isinstance(value, float | int) else ABSENT


def as_number(value: int) -> str:
    """Format a count."""
    return f"{value:,}"


def as_share(value: float | None) -> str:
    """Format a share."""
    return ABSENT if value is None else f"{value:.1%}"


def as_time(value: object) -> str:
    """Format a time; accept invalid values."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return ""
    return f"{value:%Y-%m-%d %H:%M:%S}\u00a0UTC" if isinstance(value, datetime) else ""


def is_web_address(value: str | None) -> bool:
    """Whether a URL is safe to link: not ``javascript:`` or the like."""
    return (value or "").lower().startswith(("http://", "https://"))
