"""Texts of the review page: all in the catalogues, translated, with the same placeholders."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import Environment, nodes
from starlette.requests import Request
from typing_extensions import override

from infra.translations import extract, read, untranslated, update
from services.common.domain.texts import Plural, Text
from services.review.languages import TRANSLATED, catalogue_path, choose, load_languages
from services.review.sessions import Sessions
from services.review.templating import Templates

TEMPLATES = Path("services/review/templates")
NEUTRAL = re.compile(r"Alt\+\S?|/\w+\?|DocReco|Prometheus|CC-BY-4\.0|windows-1250")
"""Same in every language: keys, addresses, names."""
LOOKUPS = {"_", "gettext", "ngettext"}
ATTRIBUTES = {"alt", "aria-label", "placeholder", "title"}
VERBATIM = {"code", "kbd", "script"}
LETTERS = re.compile(r"[^\W\d_]{2}")
WORDS = re.compile(r"^[A-Z][a-z]+\b|[a-z]{2,} [a-z]{2,}")
"""A string of an expression that looks like a text."""
MARKS = re.compile(r"%\(\w+\)s|\{\w+\}|</?\w+[^>]*>")
FRENCH = {each.code: each for each in load_languages()}["fr"]
ENGLISH = load_languages()[0]


class Texts(HTMLParser):
    """Collects what a person reads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._verbatim = 0

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._verbatim += tag in VERBATIM
        self.found += [value for name, value in attrs if name in ATTRIBUTES and value]

    @override
    def handle_endtag(self, tag: str) -> None:
        self._verbatim -= tag in VERBATIM

    @override
    def handle_data(self, data: str) -> None:
        if not self._verbatim:
            self.found.append(data)


def texts_outside(source: str) -> set[str]:
    """Return the texts of a template that no catalogue can have."""
    tree = Environment(autoescape=True, extensions=["jinja2.ext.i18n"]).parse(source)
    parser = Texts()
    parser.feed("".join(_html(tree)))
    strings = {each for each in _strings(tree) if WORDS.search(NEUTRAL.sub("", each))}
    return strings | {each for each in parser.found if LETTERS.search(NEUTRAL.sub("", each))}


def _html(node: nodes.Node) -> Iterator[str]:
    for child in node.iter_child_nodes():
        if isinstance(child, nodes.TemplateData):
            yield child.data
        elif isinstance(child, nodes.Expr):
            yield "_"
        else:
            yield from _html(child)


def _strings(node: nodes.Node) -> Iterator[str]:
    for child in node.iter_child_nodes():
        is_lookup = isinstance(child, nodes.Call) and getattr(child.node, "name", "") in LOOKUPS
        if isinstance(child, nodes.Const) and isinstance(child.value, str):
            yield child.value
        elif not (is_lookup or isinstance(child, nodes.TemplateData)):
            yield from _strings(child)


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.j2")), ids=lambda path: path.stem)
def test_template_has_no_text_outside_catalogues(path: Path) -> None:
    assert texts_outside(path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    "source",
    [
        "<p>Some text</p>",
        "<p>{% if x %}one{% endif %}</p>",
        '<a title="Some {{ name }}">x</a>',
        '{{ "Save" if x else _("Confirm") }}',
        '{% for name in ("worst first",) %}{{ name }}{% endfor %}',
    ],
)
def test_text_outside_catalogues_is_found(source: str) -> None:
    assert texts_outside(source)


def test_every_text_is_translated() -> None:
    texts = extract()
    for code in TRANSLATED:
        hint = f"run python -m infra.translations, then write the texts in {catalogue_path(code)}"
        assert [each.id for each in untranslated(code, texts)] == [], hint
        assert update(code, texts) == catalogue_path(code).read_text(encoding="utf-8"), hint


@pytest.mark.parametrize("code", TRANSLATED)
def test_translation_has_placeholders_and_tags(code: str) -> None:
    for message in read(code):
        texts, strings = (
            list(each) if isinstance(each, list | tuple) else [str(each)]
            for each in (message.id, message.string)
        )
        wanted = sorted(MARKS.findall(texts[-1]))
        for string in strings if message.id else []:
            assert sorted(MARKS.findall(string)) == wanted, string
            assert '"' not in MARKS.sub("", string), f"it ends an attribute: {string}"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "en"),
        ("fr", "fr"),
        ("fr-CA,fr;q=0.9,en;q=0.8", "fr"),
        ("FR", "fr"),
        ("de-DE,de;q=0.9,fr;q=0.8,en;q=0.7", "fr"),
        ("en-GB,fr;q=0.5", "en"),
        ("fr;q=0.3,en;q=0.9", "en"),
        ("fr;q=0,*", "en"),
        ("de", "en"),
        ("fr;q=much, ;;;q=, \u00e9", "en"),
    ],
)
def test_language_is_what_the_browser_prefers(header: str, code: str) -> None:
    assert choose(header) == code


def test_values_have_the_formats_of_the_language() -> None:
    at = datetime(2026, 2, 1, 9, 5, 7, tzinfo=UTC)
    assert [FRENCH.number(12345), FRENCH.score(0.5), FRENCH.share(0.1234), FRENCH.time(at)] == [
        "12\u202f345",
        "0,500",
        "12,3\u00a0%",
        "1 f\u00e9vr. 2026, 09:05:07\u00a0UTC",
    ]
    assert [ENGLISH.number(12345), ENGLISH.share(0.1234)] == ["12,345", "12.3%"]
    assert [ENGLISH.time(at.isoformat()), ENGLISH.time("x")] == [
        "1 Feb 2026, 09:05:07\u00a0UTC",
        "",
    ]
    assert [ENGLISH.share(None), FRENCH.score("x")] == ["none", "aucun"]


def test_text_is_english_until_it_is_shown() -> None:
    text = Text(
        "Not saved: %(reason)s.",
        {"reason": Text("text has more than %(most)s characters", {"most": 10_000})},
    )
    assert str(text) == "Not saved: text has more than 10,000 characters."
    assert (
        FRENCH.translate(text)
        == "Non enregistr\u00e9\u00a0: le texte compte plus de 10\u202f000 caract\u00e8res."
    )
    many = Plural("one", "%(count)s of %(score)s")
    assert [str(many.of(1)), str(many.of(2, {"score": 0.5}))] == ["one", "2 of 0.500"]


def test_any_address_can_be_shown_again() -> None:
    scope = {"type": "http", "method": "GET", "path": "//[none", "query_string": b"a"}
    request = Request(scope | {"headers": [], "scheme": "http", "server": ("h", 80)})
    assert Templates(Sessions(None, seconds=1)).for_request(request).address == "//[none?a"
