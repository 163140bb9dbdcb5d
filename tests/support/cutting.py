"""A process that ends at a named point, as by kill -9, without the chance that a real kill is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest


class CutError(BaseException):
    """The process ended; nothing of the program may catch this."""


@contextmanager
def cut_before(owner: Any, name: str) -> Iterator[None]:
    """End the work inside the block where it would call ``owner.name``, which it must."""

    def end(*_: object, **__: object) -> NoReturn:
        raise CutError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, end)
        with pytest.raises(CutError):
            yield
