"""The first words of the report page of a training."""

import re
from pathlib import Path

import pytest

from app.engines.model_record import ModelRecord
from app.engines.models_folder import LocalModel
from tests.factories import model_record
from tests.support.tiny_trocr import need_trocr

need_trocr()

from services.cli.train_page import training_page  # noqa: E402  after what skips
from services.training.course import Course, Epoch  # noqa: E402
from services.training.learning import Learned  # noqa: E402
from services.training.lines import TrainingLine  # noqa: E402
from services.training.measuring import LineReading, count_confusions  # noqa: E402

pytestmark = pytest.mark.slow

LOWER = "train with a lower --learning-rate than 0.01"


@pytest.mark.parametrize(
    ("losses", "best_epoch", "is_broken", "said"),
    [
        ((2.0, 1.0), 2, False, "epoch 2 of 2"),
        ((2.0, 1.0), 0, False, "the base: none of 2 epochs reads the validation split better"),
        ((1.0, 9.0), 1, False, f"epoch 1 of 2; the loss rose: {LOWER}"),
        ((), 0, True, f"the loss was not finite: {LOWER}"),
    ],
    ids=["better", "not better", "diverged", "broken at once"],
)
def test_report_first_says_what_went_wrong(
    losses: tuple[float, ...], best_epoch: int, *, is_broken: bool, said: str
) -> None:
    settings = {"learning_rate": 0.01, "has_language": False}
    known = {"epochs": len(losses), "best_epoch": best_epoch, "settings": settings}
    course = Course([Epoch(loss, 1, 0.5, 0.5) for loss in losses], 0.4, is_broken=is_broken)
    learned = Learned(
        place=LocalModel("lines", Path("lines")),
        model_version="lines@1",
        is_for_default_engine=True,
        device="cpu",
        record=ModelRecord.model_validate(model_record(**known)),
        course=course,
        left_out=0,
        unannotated=0,
        known=0,
        is_base_known=True,
        before={},
        after={},
    )

    first = re.search(r"</h1>\s*<p id=\"kept\"(.*?)>(.*?)</p>", training_page(learned))
    assert first is not None
    assert said in first[2]
    assert ("bad" in first[1]) == (said != "epoch 2 of 2")


def test_confusions_are_those_of_the_quality_page() -> None:
    line = TrainingLine(
        file=b"",
        text="\u00e9t\u00e9\u00e0",
        is_annotated=True,
        name="",
        group="",
        licence=None,
        width=1,
    )

    counts = count_confusions([LineReading(line, "eteas", 0.5, 4)])

    assert dict(counts) == {("\u00e9", "e"): 2, ("\u00e0", "a"): 1, ("", "s"): 1}
