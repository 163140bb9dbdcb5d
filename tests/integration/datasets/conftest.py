"""Fixtures of exports."""

import pytest

from tests.support.datasets import Collected, annotation, prediction
from tests.support.exports import HOSTILE, jpeg


@pytest.fixture
async def some(collected: Collected) -> Collected:
    """Eight images with a label, and one for each reason to have none."""
    for number in range(6):
        url = f"https://host-{number % 2}.example/{number}"
        await collected.add(f"{number}.png", f"read {number}", urls=(url,))
    await collected.add('evil/..=1+1;"|`x`\t é.png', "wrong", right=HOSTILE)
    await collected.add("right.jpg", "rihgt", right=" ri\u0301ght\tline ", content=jpeg())
    await collected.add("blot.png", "x", annotation=annotation("", "unreadable"))
    await collected.add("photo.png", "y", annotation=annotation("", "not_a_line"))
    await collected.add("unsure.png", "z", prediction=prediction("z", score=0.3))
    await collected.add("broken.png", "", status="rejected", prediction=None)
    await collected.add("gone.png", "", status="removed", prediction=None)
    return collected
