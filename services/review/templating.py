"""Render HTML templates, with untrusted text escaped."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import ChainableUndefined, Environment, PackageLoader
from jinja2.ext import InternationalizationExtension

from services.common.domain.annotations import as_typed, in_words
from services.common.domain.texts import Text
from services.review.chart import dots
from services.review.languages import DEFAULT, NAMES, Language, language_of, load_languages
from services.review.page_views import turning
from services.review.reasons import reason_for
from services.review.sessions import Session, Sessions


@dataclass(frozen=True)
class Templates:
    """Renders templates.

    Args:
        sessions: Makes the forms' token.
        environments: Of templates, by language.
        language: Of the pages.
        address: Of the page to show, for the switch of languages.
    """

    sessions: Sessions
    environments: Mapping[str, Environment] = field(
        default_factory=lambda: {each.code: _environment(each) for each in load_languages()}
    )
    language: str = DEFAULT
    address: str = "/"

    def for_request(self, request: Request) -> Self:
        """Return what renders in the language of a request."""
        path, query = request.url.path, request.url.query
        address = f"{path}?{query}" if query else path
        is_shown = request.method == "GET" and "hx-request" not in request.headers
        return replace(
            self, language=language_of(request), address=address if is_shown else self.address
        )

    def translate(self, text: Text) -> str:
        """Return a text in the language of the pages."""
        translated: str = self.environments[self.language].filters["translated"](text)
        return translated

    def render(
        self, template: str, session: Session | None, *, status: int = 200, **context: Any
    ) -> HTMLResponse:
        """Return a page."""
        source = self.environments[self.language].get_template(f"{template}.html.j2")
        html = source.render(
            session=session,
            token=self.sessions.token(session) if session else "",
            here=template,
            language=self.language,
            languages=NAMES,
            own_address=self.address,
            **context,
        )
        return HTMLResponse(html, status_code=status)


def _environment(language: Language) -> Environment:
    def shown(value: object) -> object:
        return language.translate(value) if isinstance(value, Text) else value

    environment = Environment(
        loader=PackageLoader("services.review"),
        autoescape=True,
        undefined=ChainableUndefined,
        finalize=shown,
        extensions=[InternationalizationExtension],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["ext.i18n.trimmed"] = True
    environment.install_gettext_translations(language.catalogue, newstyle=True)  # type: ignore[attr-defined]
    environment.filters |= {
        "dots": dots,
        "estimate": language.estimate,
        "number": language.number,
        "reason": lambda code: language.translate(reason_for(code)),
        "score": language.score,
        "share": language.share,
        "time": language.time,
        "translated": language.translate,
        "in_words": in_words,
        "turning": turning,
        "typed": as_typed,
    }
    environment.tests["web"] = is_web_address
    return environment


def is_web_address(value: str | None) -> bool:
    """Whether a URL is safe to link: not ``javascript:`` or the like."""
    return (value or "").lower().startswith(("http://", "https://"))
