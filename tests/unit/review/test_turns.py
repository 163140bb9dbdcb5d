"""One search at a time, and a first answer that does not wait for the others."""

from services.review.turns import Turns


async def test_turn_comes_to_one_at_a_time() -> None:
    turns = Turns()
    async with turns.turn(None) as has_come, turns.turn(0.01) as comes_again:
        assert has_come
        assert not comes_again
    async with turns.turn(0.01) as has_come:
        assert has_come
