"""The places where programs are killed exist."""

from pkgutil import resolve_name

import pytest

from tests.chaos.windows import Window


@pytest.mark.parametrize("window", Window)
def test_window_is_a_function_of_a_service(window: Window) -> None:
    assert callable(resolve_name(window.value.function))
