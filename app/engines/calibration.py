"""Calibrate an engine's scores to the probability of a right text.

docs/decisions/0043-score-is-a-probability.md says why it is of the whole text.

A calibration is a file made by ``docreco calibrate`` from annotated images. It belongs to one model
version, and is part of the version of predictions.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import override

from app.engines.base import Engine, EngineReading
from app.images import Pixels
from services.common.domain.trained_models import CALIBRATION_MARK

EDGE = 1e-6
"""Distance of scores from 0 and 1, where the logit is infinite."""
_HASH_LENGTH = 8
_LARGEST_LOGIT = 700.0
"""Beyond it ``exp`` overflows."""
_BISECTIONS = 60

Probability = Annotated[float, Field(ge=0, le=1)]


class CalibrationError(Exception):
    """A calibration can't be used."""


class _Linear(BaseModel):
    """A line in the logit of the score; it can be inverted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def logit(self, score: float, characters: int) -> float:
        """Return the logit of the probability."""
        raise NotImplementedError

    def __call__(self, score: float, characters: int = 1) -> float:
        """Return the probability that a text of this score is right."""
        logit = self.logit(min(max(score, EDGE), 1 - EDGE), characters)
        return 1 / (1 + math.exp(-min(max(logit, -_LARGEST_LOGIT), _LARGEST_LOGIT)))

    def inverse(self, probability: float, characters: int = 1) -> float:
        """Return the score of a probability, by bisection."""
        low, high = _logit(EDGE), _logit(1 - EDGE)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            is_low = self(1 / (1 + math.exp(-middle)), characters) < probability
            low, high = (middle, high) if is_low else (low, middle)
        return 1 / (1 + math.exp(-(low + high) / 2))


class Temperature(_Linear):
    """Divide the logit of the score by a number (Guo et al., https://arxiv.org/abs/1706.04599)."""

    method: Literal["temperature"] = "temperature"
    temperature: float = Field(gt=0, allow_inf_nan=False)

    @override
    def logit(self, score: float, characters: int) -> float:
        return _logit(score) / self.temperature


class Platt(_Linear):
    """Scale and shift the logit of the score (Platt 1999; Kull et al., AISTATS 2017)."""

    method: Literal["platt"] = "platt"
    slope: float = Field(gt=0, allow_inf_nan=False)
    intercept: float = Field(allow_inf_nan=False)

    @override
    def logit(self, score: float, characters: int) -> float:
        return self.slope * _logit(score) + self.intercept


class Length(_Linear):
    """Scale and shift the logit, and add the logarithm of the chance of all characters, scaled.

    The score is a mean over characters: were they alike and independent, a text of n characters
    would be right with the n-th power of the score.
    """

    method: Literal["length"] = "length"
    slope: float = Field(gt=0, allow_inf_nan=False)
    intercept: float = Field(allow_inf_nan=False)
    power: float = Field(ge=0, allow_inf_nan=False)

    @override
    def logit(self, score: float, characters: int) -> float:
        chance = characters * math.log(score)
        return self.slope * _logit(score) + self.intercept + self.power * chance


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


class Isotonic(BaseModel):
    """Isotonic regression: rising line segments (Zadrozny and Elkan, KDD 2002)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["isotonic"] = "isotonic"
    scores: tuple[Probability, ...] = Field(min_length=1)
    probabilities: tuple[Probability, ...]

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if len(self.scores) != len(self.probabilities):
            raise ValueError("each score needs one probability")
        if sorted(self.scores) != [*self.scores] or sorted(self.probabilities) != [
            *self.probabilities
        ]:
            raise ValueError("scores and probabilities must not fall")
        return self

    def __call__(self, score: float, _: int = 1) -> float:
        """Return the probability that a text of this score is right."""
        return float(np.interp(score, self.scores, self.probabilities))


Curve = Temperature | Platt | Length | Isotonic


class Calibration(BaseModel):
    """The content of a calibration file."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    curve: Curve = Field(discriminator="method")
    model_version: str
    """Of the engine without calibration."""
    n: int = Field(ge=1)
    """Annotated images that it was fitted to."""
    fitted_at: datetime
    ece_before: Probability
    """Expected calibration error of the engine's own scores."""
    ece_after: Probability
    """The same of calibrated scores, each by a curve fitted without it."""
    accuracy: Platt | None = None
    """Turns the engine's own score into the expected share of right characters."""

    @property
    def hash(self) -> str:
        """Identify it in ``model_version``, without a file of its own."""
        return calibration_hash(self.model_dump_json(exclude_none=True).encode())


class CalibratedEngine:
    """An engine with calibrated scores.

    Args:
        engine: The engine.
        calibration: Fitted to this version of the engine.
        file_hash: Identifies this calibration in ``model_version``.

    Raises:
        CalibrationError: It was fitted to another version.
    """

    def __init__(self, engine: Engine, calibration: Calibration, *, file_hash: str) -> None:
        if calibration.model_version != engine.model_version:
            raise CalibrationError(
                f"the calibration was fitted to {calibration.model_version}, and the model is "
                f"{engine.model_version}: fit another with docreco calibrate"
            )
        self._engine = engine
        self._curve = calibration.curve
        self._accuracy = calibration.accuracy
        self.name = engine.name
        self.best_batch = engine.best_batch
        self.least_width = engine.least_width
        self.model_version = f"{engine.model_version}{CALIBRATION_MARK}{file_hash}"

    def read(self, pixels: Pixels) -> EngineReading:
        """Read one line of text."""
        return self._calibrated(self._engine.read(pixels))

    def read_many(self, images: Sequence[Pixels]) -> list[EngineReading]:
        """Read several lines, in their order."""
        return [self._calibrated(reading) for reading in self._engine.read_many(images)]

    def _calibrated(self, reading: EngineReading) -> EngineReading:
        if not reading.text:  # 0 means that nothing was read, not a probability
            return reading
        score = self._curve(reading.score, len(reading.text))
        expected = 1 - self._accuracy(reading.score) if self._accuracy else None
        return replace(reading, score=score, expected_cer=expected)


def calibration_hash(content: bytes) -> str:
    """Return the identity of a calibration in ``model_version``."""
    return sha256(content).hexdigest()[:_HASH_LENGTH]


def calibrated(engine: Engine, file: Path) -> CalibratedEngine:
    """Apply the calibration in a file to an engine.

    Raises:
        CalibrationError: The file is missing, invalid, or fitted to another version.
    """
    try:
        content = file.read_bytes()
        calibration = Calibration.model_validate_json(content)
    except OSError as error:
        raise CalibrationError(f"the calibration {file} can't be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CalibrationError(f"{file} is not a calibration: {where} {first['msg']}") from error
    return CalibratedEngine(engine, calibration, file_hash=calibration_hash(content))
