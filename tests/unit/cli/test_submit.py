"""The name of a batch that was given none."""

from pathlib import Path

import pytest

from services.cli.submit import name_of


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("lines/poilus.zip", "poilus.zip"),
        ("lines/", "lines"),
        (".", Path.cwd().name),
        ("https://host.example/lists/a%20b.csv?token=secret", "a b.csv"),
        ("https://host.example", None),
        ("-", None),
    ],
)
def test_batch_has_the_name_of_its_source(source: str, name: str | None) -> None:
    assert name_of(source) == name
