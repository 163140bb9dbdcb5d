"""Records in the folder of models: trainings, decisions, promotions, and the loop.

The OCR API and the commands write them; the review page shows them.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict

from services.common.domain.sizes import MEBIBYTE

RECORD = "model.json"
"""Of a model, in its folder; not part of its hash, as it changes later."""
LARGEST_RECORD = 8 * MEBIBYTE
"""Limit in bytes of a file with records: it names the sources of up to 500 lines of each export."""
POINTER = "promoted.json"
LOOP = "loop.json"
CHECKPOINTS = ".training"
"""Folder of unfinished trainings, in the folder of models."""
CALIBRATION_MARK = "+cal-"
"""In a ``model_version``, between the model and the hash of its calibration."""
EMBEDDED = "ppocrv6"
"""Name of the embedded model, whose weights are in rapidocr's wheel."""
STEPS = ("export", "train", "check")
"""Of a round of the loop."""

C = TypeVar("C")


class Rates(BaseModel):
    """Quality of a model on lines."""

    model_config = ConfigDict(frozen=True)

    images: int
    cer: float
    exact: float
    score: float
    """Mean, before calibration."""


class QualityChange(BaseModel):
    """Quality on the same lines before and after a training."""

    model_config = ConfigDict(frozen=True)

    before: Rates
    after: Rates


class Training(BaseModel):
    """Origin of weights."""

    model_config = ConfigDict(frozen=True)

    model: str
    base: str
    """The version of the model that it began with."""
    trained_at: datetime
    export_sha256: str
    """Of the manifest of the training data."""
    images: dict[str, int]
    licences: list[str]
    """Of the data; empty where nothing is known."""
    settings: dict[str, Any]
    epochs: int
    best_epoch: int
    """Epoch of the kept weights, from 1; 0: those of the base."""
    added_characters: str
    metrics: dict[str, QualityChange]
    """By split."""

    @property
    def kept(self) -> str:
        """The kept weights, in words."""
        if self.best_epoch:
            return f"epoch {self.best_epoch} of {self.epochs}"
        if not self.epochs:
            return "the base: no epoch was finished"
        return f"the base: none of {self.epochs} epochs reads the validation split better"


class ComparedRates(NamedTuple):
    """Character error rates of some lines."""

    against_cer: float
    """Of the model that was in service."""
    cer: float
    images: int = 0


class PromotionDecision(BaseModel):
    """Whether a model may be put into service, by lines that no model was trained on."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    model_version: str
    against: str
    """The version that was in service."""
    images: int
    cer: float
    against_cer: float
    p_value: float
    calibration_error: float
    against_calibration_error: float | None = None
    by_source: dict[str, ComparedRates]
    by_tag: dict[str, ComparedRates] = {}
    problems: list[str]
    """Reasons against it; empty: it may be served."""
    left_out: int = 0
    """Lines that were not read, as a model was trained on them or chosen by them."""
    warnings: list[str] = []
    """Reasons why other lines may be read worse."""


class TrainedRecord(Training, Generic[C]):
    """The content of ``model.json``, with a calibration of a type."""

    calibration: C | None = None
    """Turns scores into the probability that a line is read without an error."""
    decision: PromotionDecision | None = None
    """The last one."""
    history: list[Training] = []
    """Trainings of the models that it was trained from, the first one first."""


class CalibrationFit(BaseModel):
    """Figures of a calibration."""

    n: int
    """Annotated images that it was fitted to."""
    fitted_at: datetime
    ece_before: float
    """Expected calibration error of the model's own scores."""
    ece_after: float
    """The same of calibrated scores."""


class Act(BaseModel):
    """A change of the served model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: datetime
    by: str
    reason: str


class Promotion(BaseModel):
    """A promoted model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    """Its name in the folder of models, or the embedded model's."""
    content_hash: str
    """Of its files when it was promoted; empty for the embedded model."""
    promoted: Act
    is_forced: bool = False
    """Whether it was promoted against the gate, or without having passed it."""
    rolled_back: Act | None = None


class Promotions(BaseModel):
    """The content of ``promoted.json``, the latest last."""

    model_config = ConfigDict(extra="forbid")

    promotions: list[Promotion] = []


def in_service(promotions: Sequence[Promotion]) -> Promotion | None:
    """Return the valid promotion; None: the embedded model is served."""
    return next((each for each in reversed(promotions) if each.rolled_back is None), None)


class Round(BaseModel):
    """A model on its way, or the last one of the loop."""

    model_config = ConfigDict(extra="forbid")

    name: str
    base: str
    labels: int
    """Annotated images when it began."""
    epochs: int | None = None
    """Limit of epochs of its training; None: noted by a version without this field."""
    done: list[str] = []
    """Steps that have ended."""
    refusals: int = 0
    """Times that its step was refused."""
    undecided: str = ""
    """Reason why it ended before its last step; empty: it did not."""

    @property
    def step(self) -> str | None:
        """The step that is left to do first; None: it has ended."""
        is_over = self.undecided or len(self.done) == len(STEPS)
        return None if is_over else STEPS[len(self.done)]


class Loop(BaseModel):
    """The content of ``loop.json``."""

    model_config = ConfigDict(extra="forbid")

    at: datetime
    """The last call of ``docreco loop``."""
    labels: int
    """Annotated images then."""
    wanted: int
    """New annotations with which a round begins."""
    round: Round | None = None

    @property
    def new(self) -> int:
        """Annotations since the last round began."""
        return max(0, self.labels - (self.round.labels if self.round else 0))
