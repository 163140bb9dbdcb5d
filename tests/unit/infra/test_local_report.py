"""Queries of run_local.sh to Prometheus."""

from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest

from infra.local import report


def calls(node: Any, name: str) -> Iterator[Any]:
    """Yield the calls of a function in a parsed expression."""
    if isinstance(node, promql_parser.Call) and node.func.name == name:
        yield node
    for inner in (*getattr(node, "args", ()), getattr(node, "expr", None)):
        if inner is not None:
            yield from calls(inner, name)


@pytest.mark.parametrize("query", [report.SCRAPED, report.EVALUATED])
def test_awaited_time_is_of_a_sample_and_not_of_the_query(query: str) -> None:
    asked = list(calls(promql_parser.parse(query), "timestamp"))
    assert len(asked) == 1
    assert isinstance(asked[0].args[0], promql_parser.VectorSelector)
