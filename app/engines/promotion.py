"""Promotions: a small file in the folder of models selects the default engine's model.

The last promotion that was not rolled back is valid; without one the embedded model is served. The
file is replaced atomically.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from app.engines.models_folder import locked, write_shared

POINTER = "promoted.json"
KEPT = 100
"""Limit of promotions in the file."""


class PromotionError(Exception):
    """The file of promotions can't be used."""


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


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    promotions: list[Promotion]


def read_promotions(models: Path) -> list[Promotion]:
    """Return all promotions, the latest last.

    Raises:
        PromotionError: The file is damaged, or can't be read.
    """
    try:
        return _File.model_validate_json((models / POINTER).read_bytes()).promotions
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        raise PromotionError(f"{models / POINTER} can't be read: {error}") from error


def in_service(promotions: list[Promotion]) -> Promotion | None:
    """Return the valid promotion; None: the embedded model is served."""
    return next((each for each in reversed(promotions) if each.rolled_back is None), None)


def change_promotions(
    models: Path, change: Callable[[list[Promotion]], list[Promotion]]
) -> Promotion | None:
    """Update the list by ``change``; return the valid promotion afterwards.

    Raises:
        PromotionError: The file is corrupt.
        OSError: It can't be written.
    """
    with locked(models):
        changed = change(read_promotions(models))[-KEPT:]
        write_shared(models / POINTER, _File(promotions=changed).model_dump_json(indent=2) + "\n")
    return in_service(changed)
