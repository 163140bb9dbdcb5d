"""Read a batch by an engine, and convert readings to predictions."""

import math

import structlog

from app.engines.base import Engine, Reading
from app.images import LineImage, Pixels
from app.schemas import Prediction

log = structlog.stdlib.get_logger(__name__)


def read_together(engine: Engine, images: list[Pixels]) -> list[Reading | Exception]:
    """Read a batch; after a failure each image alone, to isolate the faulty one."""
    if len(images) > 1:
        try:
            pairs = zip(images, engine.read_many(images), strict=True)
            return [reading for _, reading in pairs]
        except BaseException:
            log.exception("batch failed, reading its images one by one")
    return [_read_alone(engine, pixels) for pixels in images]


def _read_alone(engine: Engine, pixels: Pixels) -> Reading | Exception:
    try:
        return engine.read(pixels)
    except BaseException as error:  # noqa: BLE001  re-raised to the caller
        return to_exception(error)


def to_exception(error: BaseException) -> Exception:
    """Wrap exceptions that asyncio can't carry: StopIteration, and panics of Rust libraries."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(repr(error))


def prediction_of(
    engine: Engine, line: LineImage, reading: Reading | Exception, seconds: float
) -> Prediction | Exception:
    """Return the answer for an image."""
    if isinstance(reading, Exception):
        return reading
    try:
        return Prediction(
            text=reading.text,
            score=_bounded(reading.score),
            expected_cer=reading.expected_cer,
            engine=engine.name,
            model_version=engine.model_version,
            width=line.width,
            height=line.height,
            duration_ms=round(seconds * 1000, 3),
        )
    except ValueError as error:  # a faulty engine
        return error


def _bounded(score: float) -> float:
    """Clamp a score to [0, 1]; NaN counts as 0."""
    return 0.0 if math.isnan(score) else min(max(score, 0.0), 1.0)
