"""Texts for people that are made in Python: English, with values, to be translated when shown.

``str`` gives the English text, for logs, JSON and the command line. The review page looks a text up
in its catalogue (``services.review.languages``). The messages are found by the names ``Text`` and
``Plural`` (``python -m infra.translations``), so they have to be literals.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union

from typing_extensions import override


class Share(float):
    """A share, shown in percent."""


Value = Union[str, int, float, Share, "Text"]
NO_VALUES: Mapping[str, Value] = {}


@dataclass(frozen=True)
class Text:
    """A message in the form of ``%``, and its values by name; a float is a score."""

    message: str
    values: Mapping[str, Value] = field(default_factory=dict)
    plural: str = ""
    """The message for any other count than 1."""
    count: int = 1

    @override
    def __str__(self) -> str:
        message = self.plural if self.plural and self.count != 1 else self.message
        return message % {name: _english(value) for name, value in self.values.items()}


@dataclass(frozen=True)
class Plural:
    """A message that depends on a count: one form for 1, one for all others."""

    one: str
    many: str

    def of(self, count: int, values: Mapping[str, Value] = NO_VALUES) -> Text:
        """Return it with a count, which is the value ``count``."""
        return Text(self.one, {"count": count, **values}, self.many, count)


def number_of(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun, in English: ``1 image``, ``2 images``; default: with an s."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def text_of_error(error: Exception) -> Text | str:
    """Return the message of an error, to be translated if it can be."""
    said = error.args[0] if error.args else ""
    return said if isinstance(said, Text) else str(error)


def _english(value: Value) -> str:
    if isinstance(value, Share):
        return f"{value:.1%}"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
