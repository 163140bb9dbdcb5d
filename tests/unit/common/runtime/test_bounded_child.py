import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from tempfile import TemporaryFile
from typing import IO, Any

import pytest

from services.common.runtime.bounded_child import (
    BoundedChild,
    ChildCrashedError,
    ChildError,
    ChildLimitError,
    ChildLimits,
    ChildStoppedError,
    InputRefusedError,
)
from tests.support.waiting import DEADLINE_SECONDS

pytestmark = pytest.mark.slow

LIMITS = ChildLimits(memory_bytes=200 * 2**20, cpu_seconds=20, max_result_bytes=10_000)


@pytest.fixture
def file() -> Iterator[IO[bytes]]:
    with TemporaryFile() as file:
        file.write("é\n2\n".encode())
        file.flush()
        yield file


def results(name: str, file: IO[bytes], *args: Any, limits: ChildLimits = LIMITS) -> list[Any]:
    with BoundedChild(f"tests.support.child_functions:{name}", file, limits, *args) as child:
        return list(child.results())


def test_function_reads_the_file_and_its_arguments(file: IO[bytes]) -> None:
    assert results("lines", file, {"a": 1}, None) == [{"a": 1}, None, "é\n", "2\n"]


def test_file_is_read_right_after_a_child_moved_its_position() -> None:
    content = bytes(range(256)) * 400
    with TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        file.read(4)  # leaves the beginning in Python's own buffer
        file.seek(0)
        with BoundedChild("tests.support.child_functions:size", file, LIMITS) as child:
            assert list(child.results()) == [len(content)]
        file.seek(4000)
        assert file.read(90_000) == content[4000:94_000]


def test_child_inherits_no_credentials(file: IO[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_SECRET_KEY", "hush")

    (environment,) = results("environment", file)

    assert set(environment) <= {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "LC_CTYPE"}


def test_child_writes_no_files_and_is_killed_first(file: IO[bytes]) -> None:
    assert results("limits", file) == [[0, 0], 1000]


@pytest.mark.parametrize(
    ("name", "expected", "said"),
    [
        ("refusing", InputRefusedError, "not today"),
        ("failing", ChildCrashedError, "KeyError: 'bug'"),
        ("dying", ChildCrashedError, f"exit status -{signal.SIGABRT.value}"),
        ("greedy", ChildLimitError, "more than 200 MiB of memory"),
        ("endless", ChildLimitError, "more than 10000 bytes"),
        ("missing", ChildCrashedError, "AttributeError"),
    ],
)
def test_error_in_the_child_is_an_error_here(
    name: str, expected: type[ChildError], said: str, file: IO[bytes]
) -> None:
    with pytest.raises(expected, match=said):
        results(name, file)


def test_results_before_an_error_are_had(file: IO[bytes]) -> None:
    with BoundedChild("tests.support.child_functions:refusing", file, LIMITS) as child:
        assert next(child.results()) == 1


def test_child_that_computes_for_too_long_is_ended(file: IO[bytes]) -> None:
    with pytest.raises(ChildLimitError, match="more than 1 s"):
        results("spinning", file, limits=ChildLimits(LIMITS.memory_bytes, cpu_seconds=1))


def test_child_can_be_stopped_from_another_thread(file: IO[bytes]) -> None:
    with (
        ThreadPoolExecutor(1) as threads,
        BoundedChild("tests.support.child_functions:spinning", file, LIMITS) as child,
    ):
        has_begun = threading.Event()

        def read() -> None:
            for _ in child.results():
                has_begun.set()

        reading = threads.submit(read)
        assert has_begun.wait(DEADLINE_SECONDS)
        child.kill()

        with pytest.raises(ChildStoppedError):
            reading.result(DEADLINE_SECONDS)
