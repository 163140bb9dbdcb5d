"""Extract the texts of the review page, and update its catalogues.

``python -m infra.translations`` writes ``services/review/locale/*/LC_MESSAGES/messages.po``: a new
text comes with an empty translation, and one that no code has any longer goes. It prints what is
left to translate (exit status 1 if anything is).
"""

import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract as extract_texts
from babel.messages.pofile import read_po, write_po

from services.review.languages import TRANSLATED, catalogue_path

ROOT = Path(__file__).parents[1]
SOURCES = {
    "python": ("services/review", "services/quality", "services/common/domain"),
    "jinja2.ext:babel_extract": ("services/review/templates",),
}
SUFFIXES = {"python": "*.py", "jinja2.ext:babel_extract": "*.j2"}
KEYWORDS = {
    "_": None,
    "gettext": None,
    "ngettext": (1, 2),
    "Text": None,
    "Plural": (1, 2),
    # Its detail, which the page of an error looks up
    "ProblemError": (3,),
}
OPTIONS = {"newstyle_gettext": "true", "trimmed": "true", "silent": "false"}


def extract() -> Catalog:
    """Return the texts of templates and code."""
    catalogue = Catalog()
    for text in _texts():
        catalogue.add(text)
    return catalogue


def read(code: str) -> Catalog:
    """Return the catalogue of a language."""
    with catalogue_path(code).open("rb") as file:
        return read_po(file, locale=code)


def update(code: str, texts: Catalog) -> str:
    """Return the file of a language with the texts of now."""
    catalogue, written = read(code), BytesIO()
    catalogue.update(texts, no_fuzzy_matching=True)
    # Sorted, without dates and lines of code: changes of several people rarely meet
    header = catalogue_path(code).read_text(encoding="utf-8").partition("\n\n")[0]
    options = {"omit_header": True, "no_location": True, "sort_output": True}
    write_po(written, catalogue, width=0, ignore_obsolete=True, **options)
    return f"{header}\n\n{written.getvalue().decode()}"


def untranslated(code: str, texts: Catalog) -> list[Message]:
    """Return the texts whose translation is missing, or marked as fuzzy."""
    known = read(code)
    return [each for each in texts if each.id and not _is_done(known.get(each.id))]


def _is_done(message: Message | None) -> bool:
    if message is None or message.fuzzy:
        return False
    string = message.string
    return all(string) if isinstance(string, list | tuple) else bool(string)


def _texts() -> Iterator[str | tuple[str, ...]]:
    for method, folders in SOURCES.items():
        for folder in folders:
            for path in sorted((ROOT / folder).rglob(SUFFIXES[method])):
                with path.open("rb") as file:
                    found = extract_texts(method, file, keywords=KEYWORDS, options=OPTIONS)
                    yield from (text for _, text, _, _ in found)


def main() -> int:
    """Update all catalogues."""
    texts, left = extract(), 0
    for code in TRANSLATED:
        catalogue_path(code).write_text(update(code, texts), encoding="utf-8")
        for message in untranslated(code, texts):
            left += 1
            sys.stdout.write(f"{code}: {message.id}\n")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
