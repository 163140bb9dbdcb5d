"""Selectors of PromQL expressions, with resolved regular expressions."""

import itertools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import promql_parser

COUNTING = frozenset({"rate", "increase", "irate"})


class Matcher(NamedTuple):
    """One condition on a label."""

    label: str
    value: str
    is_regex: bool
    is_negative: bool

    def takes(self, value: str) -> bool:
        """Return whether a label's value fulfils it."""
        found = (
            re.fullmatch(self.value, value) is not None if self.is_regex else value == self.value
        )
        return found is not self.is_negative


class Selector(NamedTuple):
    """One metric of an expression, with its conditions."""

    metric: str
    matchers: tuple[Matcher, ...]
    is_counted: bool
    """Whether its growth is asked for."""
    promql: str
    """Without its range."""

    def takes(self, labels: dict[str, str]) -> bool:
        """Return whether it selects a series with these labels."""
        return all(each.takes(labels.get(each.label, "")) for each in self.matchers)


def selectors(promql: str) -> Iterator[Selector]:
    """Yield all that an expression selects."""
    waiting: list[tuple[Any, bool]] = [(promql_parser.parse(promql), False)]
    while waiting:
        node, is_counted = waiting.pop()
        if isinstance(node, promql_parser.VectorSelector):
            yield _selector(node, is_counted=is_counted)
        is_counting = isinstance(node, promql_parser.Call) and node.func.name in COUNTING
        inner = [
            *(getattr(node, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")),
            *(getattr(node, "args", None) or ()),
        ]
        waiting += [(each, is_counted or is_counting) for each in inner if each is not None]


def _selector(node: Any, *, is_counted: bool) -> Selector:
    operators = promql_parser.MatchOp
    matchers = tuple(
        Matcher(
            each.name,
            each.value,
            each.op in (operators.Re, operators.NotRe),
            each.op in (operators.NotEqual, operators.NotRe),
        )
        for each in node.matchers.matchers
    )
    return Selector(node.name or "", matchers, is_counted, str(node))


def alternatives(pattern: str) -> list[str]:
    """Return a regular expression for each choice: ``(a|b)[.]c|d`` is of three."""
    found = re.search(r"\(([^()]*)\)", pattern)
    if found is None:
        return pattern.split("|")
    before, after = pattern[: found.start()], pattern[found.end() :]
    chosen = (alternatives(f"{before}{each}{after}") for each in found[1].split("|"))
    return list(dict.fromkeys(itertools.chain.from_iterable(chosen)))
