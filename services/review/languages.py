"""Languages of the pages: which one a browser asks for, its catalogue, and its formats."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from pathlib import Path

from babel import Locale, negotiate_locale
from babel.dates import format_datetime
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, format_percent
from fastapi import Request

from services.common.domain.texts import Share, Text, Value
from services.quality.estimates import Estimate

COOKIE = "language"
COOKIE_SECONDS = 365 * 24 * 3600
CATALOGUES = Path(__file__).parent / "locale"
NAMES = {"en": "English", "fr": "Fran\u00e7ais"}
"""The languages in their own words; the first one is the default, that of the messages."""
DEFAULT, *TRANSLATED = NAMES
REGIONS = {"en": "en_GB"}
"""Formats of a language, if not its own: a day before its month is read rightly everywhere."""
ABSENT = Text("none")
WORDS = (
    *(Text("running"), Text("completed"), Text("cancelled")),
    *(Text("queued"), Text("stored"), Text("unchanged"), Text("failed")),
    *(Text("predicted"), Text("segmented"), Text("rejected"), Text("removed")),
    *(Text("ok"), Text("unreadable"), Text("not_a_line"), Text("cut_wrong")),
    *(Text("given"), Text("accepted"), Text("corrected"), Text("transcribed")),
    *(Text("url"), Text("archive"), Text("folder"), Text("upload"), Text("page")),
    *(Text("model"), Text("how"), Text("length"), Text("errors"), Text("misread")),
    *(Text("double"), Text("reader"), Text("waiting"), Text("agreed"), Text("different")),
    *(Text("decided"), Text("twice")),
    Text("(uploaded)"),
    *(Text("where"), Text("since"), Text("until"), Text("split"), Text("licence"), Text("by")),
)
"""Stored words that pages show by the filter ``translated``; named here for the catalogues."""


@dataclass(frozen=True)
class Language:
    """A language of the pages."""

    code: str
    catalogue: NullTranslations

    @cached_property
    def locale(self) -> Locale:
        """Its formats of numbers and times."""
        return Locale.parse(REGIONS.get(self.code, self.code))

    def translate(self, text: Text | str) -> str:
        """Return a text in this language; a string as it is in the catalogue, else unchanged."""
        if isinstance(text, str):
            return self.catalogue.gettext(text) if text else text
        message = (
            self.catalogue.ngettext(text.message, text.plural, text.count)
            if text.plural
            else self.catalogue.gettext(text.message)
        )
        return message % {name: self._value(value) for name, value in text.values.items()}

    def number(self, value: float) -> str:
        """Format a count, or a number with at most three decimals."""
        return format_decimal(value, locale=self.locale)

    def score(self, value: object) -> str:
        """Format a score; accept invalid values."""
        if not isinstance(value, float | int):
            return self.translate(ABSENT)
        return format_decimal(value, "0.000", locale=self.locale)

    def share(self, value: float | None) -> str:
        """Format a share."""
        if value is None:
            return self.translate(ABSENT)
        pattern = self.locale.percent_formats[None].pattern.replace("0", "0.0")
        return format_percent(value, pattern, locale=self.locale)

    def estimate(
        self, value: Estimate | None, *, is_score: bool = False, is_signed: bool = False
    ) -> str:
        """Format an estimate with its interval: shares, unless they are scores."""
        if value is None:
            return self.translate(ABSENT)
        form = self.score if is_score else self.share
        sign = "+" if is_signed else ""
        shown = [
            f"{sign if each > 0 else ''}{form(each)}"
            for each in (value.value, value.low, value.high)
            if each is not None
        ]
        if len(shown) < 3:
            return shown[0]
        bounds = dict(zip(("value", "low", "high"), shown, strict=True))
        return self.translate(Text("%(value)s (%(low)s to %(high)s)", bounds))

    def time(self, value: object) -> str:
        """Format a time; accept invalid values."""
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                return ""
        if not isinstance(value, datetime):
            return ""
        return f"{format_datetime(value, 'medium', locale=self.locale)}\u00a0UTC"

    def _value(self, value: Value) -> str:
        match value:
            case Text():
                return self.translate(value)
            case str():
                return value
            case Share():
                return self.share(value)
            case float():
                return self.score(value)
            case _:
                return self.number(value)


def catalogue_path(code: str) -> Path:
    """Return the file with the translations into a language."""
    return CATALOGUES / code / "LC_MESSAGES" / "messages.po"


def load_languages() -> list[Language]:
    """Read the catalogues, as they are in the repository: nothing has to be compiled before."""
    return [Language(code, _catalogue(code)) for code in NAMES]


def language_of(request: Request) -> str:
    """Return the language of the switch, otherwise the one that the browser prefers."""
    chosen = request.cookies.get(COOKIE, "")
    if chosen in NAMES:
        return chosen
    return choose(request.headers.get("accept-language", ""))


def choose(header: str) -> str:
    """Return our language that an ``Accept-Language`` header (RFC 9110) prefers."""
    preferred = [name.replace("*", DEFAULT) for name in _by_weight(header)]
    return negotiate_locale(preferred, list(NAMES), sep="-") or DEFAULT


def _by_weight(header: str) -> Sequence[str]:
    weighted = []
    for part in header.split(","):
        name, _, parameter = part.partition(";")
        try:
            weight = float(parameter.partition("q=")[2] or 1)
        except ValueError:
            weight = 0.0
        if weight > 0:
            weighted.append((weight, name.strip().lower()))
    return [name for _, name in sorted(weighted, key=lambda each: -each[0])]


def _catalogue(code: str) -> NullTranslations:
    if code not in TRANSLATED:
        return NullTranslations()
    compiled = BytesIO()
    with catalogue_path(code).open("rb") as file:
        write_mo(compiled, read_po(file, locale=code))
    compiled.seek(0)
    return GNUTranslations(compiled)
