"""One search at a time, and a first answer that does not wait for the others."""

from services.review.search_limits import SearchLock


async def test_search_lock_is_held_by_one_at_a_time() -> None:
    lock = SearchLock()
    async with lock.acquire(None) as is_acquired, lock.acquire(0.01) as is_acquired_again:
        assert is_acquired
        assert not is_acquired_again
    async with lock.acquire(0.01) as is_acquired:
        assert is_acquired
