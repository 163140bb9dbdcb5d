"""Lines of transcribed pages, found again and compared."""

from typing import Any, cast

import numpy as np

from app.engines.base import Engine, EngineReading
from services.cli.page_evaluation import Evaluator
from services.quality.line_finding import KnownLine
from services.segmenter.detection import Detector
from tests.support.pages import page_file


class Blind:
    """Finds no line."""

    def find(self, _: np.ndarray[Any, Any]) -> list[Any]:
        return []


class Reader:
    """Reads the same text in any image."""

    def read(self, _: object) -> EngineReading:
        return EngineReading("one", 1.0)


def test_page_on_which_nothing_is_found_counts_what_is_missed() -> None:
    line = KnownLine.of((100, 100, 600, 100, 600, 140, 100, 140), None, "one")
    assert line is not None
    evaluator = Evaluator(cast("Any", None), cast("Any", None), cast("Engine", Reader()))

    found = evaluator._compare(page_file(), [line], cast("Detector", Blind()))

    assert (found.pages, found.known, found.found) == (1, 1, 0)
    assert (found.characters, found.errors, found.errors_of_known) == (3, 3, 0)
