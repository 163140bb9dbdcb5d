"""Promotions: a small file in the folder of models selects the default engine's model.

The last promotion that was not rolled back is valid; without one the embedded model is served. The
file is replaced atomically.
"""

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from app.engines.models_folder import locked, write_shared
from services.common.domain.trained_models import POINTER, Promotion, Promotions, in_service

KEPT = 100
"""Limit of promotions in the file."""


class PromotionError(Exception):
    """The file of promotions can't be used."""


def read_promotions(models: Path) -> list[Promotion]:
    """Return all promotions, the latest last.

    Raises:
        PromotionError: The file is damaged, or can't be read.
    """
    try:
        return Promotions.model_validate_json((models / POINTER).read_bytes()).promotions
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        raise PromotionError(f"{models / POINTER} can't be read: {error}") from error


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
        write_shared(
            models / POINTER, Promotions(promotions=changed).model_dump_json(indent=2) + "\n"
        )
    return in_service(changed)
