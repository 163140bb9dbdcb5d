"""The places between two writes at which a real process is killed; docs/reliability.md has them.

``python -m tests.chaos.windows MODULE ARGUMENTS...`` runs a program's module as usual. It looks
into the folder ``CHAOS_WINDOWS`` whenever it passes one of its windows: where a file has the
window's title, the process counts that file down, and kills itself at zero. The file is renamed
first, which proves the kill, and the next process of the program goes on undisturbed.
"""

import functools
import os
import runpy
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from services.common.adapters.rabbitmq.retry_policy import FETCH_QUEUES, OCR_QUEUES

FOLDER_VARIABLE = "CHAOS_WINDOWS"
DONE_SUFFIX = ".killed"

FETCHER = "services.fetcher.main"
CONSUMER = "services.consumer.main"
RECONCILER = "services.reconciler.main"
REVIEW = "services.review.main"
COMMAND = "services.cli.main"
OCR_RETRY, FETCH_RETRY = OCR_QUEUES.delays[0], FETCH_QUEUES.delays[0]


@dataclass(frozen=True)
class Place:
    """Point at which a process is killed."""

    title: str
    """Completed and missing writes."""
    module: str
    """Of the program."""
    function: str
    """The writer: an asynchronous function, as ``module:function`` or ``module:Class.method``."""
    is_before: bool = False
    """Whether the kill comes before the function's write, and not after it."""
    queue: str = ""
    """Of a function that publishes: only what goes to this queue counts."""

    def install(self, folder: Path) -> None:
        """Have this process killed here while ``folder`` has a file of the place's title."""
        module, _, path = self.function.partition(":")
        owner_path, _, name = path.rpartition(".")
        owner = resolve_name(f"{module}:{owner_path}")
        setattr(owner, name, self._wrapped(getattr(owner, name), folder / self.title))

    def _wrapped(
        self, function: Callable[..., Awaitable[Any]], armed: Path
    ) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(function)
        async def write(*args: Any, **kwargs: Any) -> Any:
            counts = not self.queue or kwargs.get("queue") == self.queue
            if counts and self.is_before:
                _pass(armed)
            result = await function(*args, **kwargs)
            if counts and not self.is_before:
                _pass(armed)
            return result

        return write


_ADAPTERS = "services.common.adapters"
_PUBLISH = f"{_ADAPTERS}.rabbitmq.messaging:Publisher.publish"
_ERASE = "services.erasure.removal:erase_tombstones"


class Window(Enum):
    """The places, by the program that is killed."""

    PAGE_WRITTEN = Place(
        "page of a list written, list not loaded",
        FETCHER,
        "services.fetcher.batches.pages:ListPages.add",
    )
    PAGE_PUBLISHED = Place(
        "page published, progress not noted",
        FETCHER,
        "services.fetcher.batches.dispatcher:Dispatcher._publish",
    )
    ITEM_NOTED = Place(
        "item noted as queued, image not stored",
        FETCHER,
        "services.fetcher.batches.item_repository:ItemRepository.queue",
    )
    IMAGE_STORED = Place(
        "image stored, item not finished",
        FETCHER,
        f"{_ADAPTERS}.object_store:ObjectStore.write",
    )
    ITEM_FINISHED = Place(
        "item finished, job not acknowledged",
        FETCHER,
        "services.fetcher.batches.item_repository:ItemRepository.finish",
    )
    JOB_COPIED = Place(
        "job copied for a retry, original not acknowledged",
        FETCHER,
        _PUBLISH,
        queue=FETCH_RETRY,
    )
    RETRY_ASKED = Place(
        "retry of a batch noted, not carried out",
        FETCHER,
        "services.fetcher.batches.pages:Expander.requeue",
        is_before=True,
    )
    RETRY_DONE = Place(
        "retry of a batch carried out, not noted",
        FETCHER,
        "services.fetcher.batches.pages:Expander.requeue",
    )
    DOCUMENT_WRITTEN = Place(
        "document written, event not acknowledged",
        CONSUMER,
        f"{_ADAPTERS}.image_repository:ImageRepository._write",
    )
    EVENT_COPIED = Place(
        "event copied for a retry, original not acknowledged",
        CONSUMER,
        _PUBLISH,
        queue=OCR_RETRY,
    )
    EVENT_PARKED = Place(
        "message parked, original not acknowledged",
        CONSUMER,
        _PUBLISH,
        queue=OCR_QUEUES.parked,
    )
    ANNOTATION_KEPT = Place(
        "annotation kept aside, document not changed",
        CONSUMER,
        f"{_ADAPTERS}.forgotten:Tombstones.keep",
    )
    FORGOTTEN_AGAIN = Place(
        "forgotten image noted as removed, object not deleted",
        CONSUMER,
        f"{_ADAPTERS}.object_store:ObjectStore.erase",
        is_before=True,
    )
    ANSWER_BEGUN = Place(
        "answer noted, annotation not written",
        REVIEW,
        "services.review.leases:Leases.begin",
    )
    ANSWER_WRITTEN = Place(
        "annotation written, answer not finished",
        REVIEW,
        f"{_ADAPTERS}.image_repository:ImageRepository.annotate",
    )
    TAKEN_BACK = Place(
        "annotation taken back, note of it not removed",
        REVIEW,
        f"{_ADAPTERS}.image_repository:ImageRepository.revert",
    )
    IMAGE_BLOCKED = Place(
        "forget, bytes blocked, nothing erased",
        COMMAND,
        f"{_ADAPTERS}.forgotten:Forgotten.add",
    )
    ANNOTATIONS_ERASED = Place(
        "forget, annotations erased, tombstones not",
        COMMAND,
        _ERASE,
        is_before=True,
    )
    TOMBSTONES_ERASED = Place(
        "forget, tombstones erased, object not deleted",
        COMMAND,
        _ERASE,
    )
    OBJECT_DELETED = Place(
        "forget, object deleted, command not finished",
        COMMAND,
        f"{_ADAPTERS}.object_store:ObjectStore.erase",
    )
    MESSAGE_REPLAYED = Place(
        "parked message published again, original not dropped",
        COMMAND,
        f"{_ADAPTERS}.rabbitmq.dead_letters:_replay_one",
    )
    FOUND_QUEUED = Place(
        "object without a document queued, pass not finished",
        RECONCILER,
        _PUBLISH,
        queue=OCR_QUEUES.work,
    )


def arm(armed: Path, at: int = 1) -> None:
    """Have the process killed when it passes for the ``at``-th time; it never sees half a file."""
    half = armed.with_name(f"{armed.name}.new")
    half.write_text(str(at))
    half.replace(armed)


def _pass(armed: Path) -> None:
    """Kill this process where a window is armed and its count is over."""
    try:
        left = int(armed.read_text()) - 1
    except FileNotFoundError:
        return
    if left > 0:
        arm(armed, left)
        return
    armed.rename(armed.with_name(f"{armed.name}{DONE_SUFFIX}"))
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run a program's module with its windows installed."""
    sys.argv = sys.argv[1:]
    module = sys.argv[0]
    for window in Window:
        if window.value.module == module:
            window.value.install(Path(os.environ[FOLDER_VARIABLE]))
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
