"""The engine's queue: its limit and its batches."""

import threading
import time

import pytest

import app.queueing
from app.errors import OverloadedError
from app.queueing import ReadJob, WorkQueue
from tests.support.waiting import DEADLINE_SECONDS


def queue(*, threads: int = 1, max_waiting: int = 100, max_wait_seconds: float = 1.0) -> WorkQueue:
    return WorkQueue(threads=threads, max_waiting=max_waiting, max_wait_seconds=max_wait_seconds)


def job(width: int = 320, height: int = 48) -> ReadJob:
    return ReadJob(b"", width, height)


def test_first_image_goes_with_later_ones_of_similar_width() -> None:
    waiting = queue()
    waiting.set_up(batch_size=3, seconds_per_pixel=0)
    wide, narrow, also_wide, again_wide, fourth_wide = (
        job(width) for width in (900, 100, 800, 1000, 900)
    )
    for each in (wide, narrow, also_wide, again_wide, fourth_wide):
        waiting.put(each)

    assert waiting.take() == [wide, also_wide, again_wide]
    assert waiting.take() == [narrow]
    assert waiting.take() == [fourth_wide]


def test_one_image_a_call_where_a_batch_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.queueing, "GATHER_SECONDS", 60)
    waiting = queue()
    first, second = job(), job()
    waiting.put(first)
    waiting.put(second)

    started = time.perf_counter()
    assert waiting.take() == [first]
    assert waiting.take() == [second]
    assert time.perf_counter() - started < 60


def test_batch_takes_images_that_come_while_its_first_waits() -> None:
    waiting = queue()
    waiting.set_up(batch_size=2, seconds_per_pixel=0)
    taken: list[list[ReadJob]] = []
    thread = threading.Thread(target=lambda: taken.append(waiting.take()))
    thread.start()
    first, second = job(), job()

    waiting.put(first)
    waiting.put(second)
    thread.join(DEADLINE_SECONDS)

    assert taken == [[first, second]]


def test_an_image_whose_client_left_is_never_read() -> None:
    waiting = queue()
    gone, cancelled, wanted = job(), job(), job()
    for each in (gone, cancelled, wanted):
        waiting.put(each)

    waiting.drop(gone)
    cancelled.result.cancel()

    assert waiting.take() == [wanted]


def test_no_more_images_wait_than_may() -> None:
    waiting = queue(threads=1, max_waiting=1)
    waiting.put(job())
    waiting.put(job())
    with pytest.raises(OverloadedError):
        waiting.check_room()
    with pytest.raises(OverloadedError):
        waiting.put(job())

    batch = waiting.take()
    with pytest.raises(OverloadedError):
        waiting.put(job())
    waiting.finish(batch, seconds=0.01)
    waiting.put(job())


def test_image_whose_header_is_being_read_has_its_place() -> None:
    waiting = queue(threads=1, max_waiting=0)
    with waiting.entering():
        with pytest.raises(OverloadedError):
            waiting.check_room()
        with pytest.raises(OverloadedError), waiting.entering():
            pass
    waiting.put(job())
    with pytest.raises(OverloadedError), waiting.entering():
        pass


def test_image_is_refused_when_its_wait_would_be_too_long() -> None:
    waiting = queue(threads=2, max_wait_seconds=1.0)
    line = job()
    waiting.set_up(batch_size=1, seconds_per_pixel=0.5 / line.work)  # each takes half a second
    for _ in range(5):  # on two threads, the fifth begins after 1 s
        waiting.put(job())

    with pytest.raises(OverloadedError, match=r"wait 1\.2 s"):
        waiting.put(job())


def test_images_whose_header_is_being_read_count_as_others() -> None:
    waiting = queue(threads=1, max_wait_seconds=1.0)
    line = job()
    waiting.set_up(batch_size=1, seconds_per_pixel=0.3 / line.work)
    waiting.put(line)
    with waiting.entering(), waiting.entering(), waiting.entering():
        with pytest.raises(OverloadedError, match=r"wait 1\.2 s"):
            waiting.check_room()
        with pytest.raises(OverloadedError, match=r"wait 1\.2 s"), waiting.entering():
            pass
        waiting.put(job())  # its own header came first


def test_image_that_takes_too_long_is_read_if_nothing_waits() -> None:
    waiting = queue(max_wait_seconds=0.1)
    waiting.set_up(batch_size=1, seconds_per_pixel=1.0)
    waiting.put(job())
    waiting.take()

    waiting.put(job())
    with pytest.raises(OverloadedError):
        waiting.put(job())


def test_what_a_pixel_takes_is_learnt_from_what_was_read() -> None:
    waiting = queue(max_wait_seconds=1.0)
    waiting.set_up(batch_size=1, seconds_per_pixel=0)
    for _ in range(50):
        waiting.put(job())
        waiting.finish(waiting.take(), seconds=10)
    waiting.put(job())

    with pytest.raises(OverloadedError):
        waiting.put(job())


def test_slower_machine_is_noticed_within_a_few_images() -> None:
    waiting = queue(max_wait_seconds=0.6)
    waiting.set_up(batch_size=1, seconds_per_pixel=0.04 / job().work)
    for _ in range(6):
        waiting.put(job())
        waiting.finish(waiting.take(), seconds=0.4)
    waiting.put(job())
    waiting.put(job())

    with pytest.raises(OverloadedError, match=r"wait 0\.7 s"):
        waiting.put(job())


def test_one_very_slow_image_hardly_changes_the_estimate() -> None:
    waiting = queue(max_wait_seconds=1.0)
    waiting.set_up(batch_size=1, seconds_per_pixel=0.01 / job().work)
    waiting.put(job())
    waiting.finish(waiting.take(), seconds=2)

    waiting.put(job())
    waiting.put(job())
    assert waiting.waiting == 2


def test_a_line_counts_by_what_the_engine_reads_not_by_its_file() -> None:
    small, large, turned = job(320, 48), job(3200, 480), job(480, 3200)

    assert small.work < large.work < 2.5 * small.work
    assert turned.work == large.work
    assert job(65_535, 1).line_width == 3200


def test_a_narrow_line_counts_as_what_the_engine_pads_it_to() -> None:
    assert ReadJob(b"", 64, 48, least_width=320).line_width == job(320).line_width
    assert ReadJob(b"", 640, 48, least_width=320).line_width == job(640).line_width


def test_closing_lets_every_thread_end_and_cancels_what_waits() -> None:
    waiting = queue()
    waiting.set_up(batch_size=4, seconds_per_pixel=0)
    ended: list[list[ReadJob]] = []
    threads = [threading.Thread(target=lambda: ended.append(waiting.take())) for _ in range(3)]
    for thread in threads:
        thread.start()

    waiting.close()
    for thread in threads:
        thread.join(DEADLINE_SECONDS)
    assert ended == [[], [], []]

    closed, late = queue(), job()
    closed.put(late)
    closed.close()
    assert late.result.cancelled()
