"""Common parts of the scenes: the pipeline, its programs' deaths, and invariants."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from infra.local.services import ROOT
from infra.local.settings import child_environment
from infra.local.supervisor import Program
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Document
from services.common.adapters.object_store import ObjectStore
from services.common.adapters.rabbitmq.messaging import open_publisher
from services.common.domain.annotations import AnnotationOutcome, to_annotation
from services.provisioner.bucket import set_up_bucket
from tests.chaos.load import key_of, submit
from tests.chaos.windows import COMMAND, DONE_SUFFIX, FOLDER_VARIABLE, Window, arm
from tests.support.notifying import USUAL_ARN
from tests.support.pipeline import Client, Pipeline
from tests.support.waiting import eventually
from tests.support.web import WebSite

PASSWORD = "a login that survives"
"""Of the review page: without one its cookies end with its process."""
PATIENCE_SECONDS = 240.0
"""For one step of a scene: messages of the load may be in front of its own."""

Killed = Callable[[], Awaitable[None]]
"""Waits until a program is killed."""


def with_windows(folder: Path) -> Callable[[Program], Program]:
    """Return how services are run so that they are killed at the windows armed in ``folder``."""
    modules = {window.value.module for window in Window}

    def change(program: Program) -> Program:
        python, option, module = program.argv
        if module not in modules:
            return program
        own = {FOLDER_VARIABLE: str(folder), "REVIEW_LOGIN_PASSWORD": PASSWORD}
        argv = [python, option, "tests.chaos.windows", module]
        return replace(program, argv=argv, env={**program.env, **own})

    return change


@dataclass
class Stage:
    """A running pipeline, and what scenes brought into it beside the load."""

    pipeline: Pipeline
    client: Client
    site: WebSite
    folder: Path
    """Of armed windows."""
    dice: Random
    drawn: Iterator[bytes]
    """Images that no other load submits."""
    images: dict[str, bytes] = field(default_factory=dict)
    """All that are there in the end, by key."""
    urls: dict[str, str] = field(default_factory=dict)
    """Sources, by key."""
    batches: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    """Texts that the images have in the end, by key."""

    @asynccontextmanager
    async def killing(self, window: Window, *, at: int = 1) -> AsyncIterator[Killed]:
        """Have a service killed at a window, which the block must lead to; wait for its restart.

        Args:
            window: Where.
            at: On which pass: 1 is the first.
        """
        place, events = window.value, self.pipeline.events
        programs = self.pipeline.programs.values()
        name = next(each.name for each in programs if each.argv[-1] == place.module)
        before = len(events)

        async def killed() -> None:
            await self._await_killed(window)

        async def is_back() -> bool:
            return f"{name} is ready again" in events[before:]

        self._arm(window, at)
        yield killed
        await killed()
        await eventually(is_back, seconds=PATIENCE_SECONDS)
        assert f"{name} was killed by signal 9; restarting it" in events[before:]

    async def kill_command(self, window: Window, *arguments: str) -> None:
        """Run ``docreco``, which must be killed at a window."""
        self._arm(window)
        status, output = await self._run(*arguments)
        assert status == -signal.SIGKILL, output
        await self._await_killed(window)

    async def command(self, *arguments: str) -> None:
        """Run ``docreco``, which must go well."""
        status, output = await self._run(*arguments)
        assert status == 0, output

    async def put(self, key: str, image: bytes, **metadata: str) -> None:
        """Store an image that is there in the end."""
        self.images[key] = image
        await self.client.store.write(key, image, content_type="image/png", metadata=metadata)

    async def store(self) -> str:
        """Store a new image; return its key."""
        key = f"uploads/scenes/{len(self.images)}.png"
        await self.put(key, next(self.drawn))
        return key

    async def read(self, key: str, **having: Any) -> Document:
        """Wait for the document of an image that was read."""
        where = {"key": key, "status": "predicted", **having}
        return await self.client.document(where, seconds=PATIENCE_SECONDS)

    async def annotate(self, key: str, text: str) -> None:
        """Annotate an image that was read."""
        document, said = await self.read(key), to_annotation(text, by="anna")
        outcome = await ImageRepository(self.client.database.images).annotate(document["_id"], said)
        assert outcome is AnnotationOutcome.WRITTEN

    def serve(self, image: bytes, text: str = "") -> dict[str, str]:
        """Serve an image; return the item of a list that leads to it."""
        digest = sha256(image).hexdigest()
        key = key_of(image)
        self.images[key] = image
        self.urls[key] = self.site.add_body(f"/scenes/{digest}.png", image)
        if not text:
            return {"url": self.urls[key]}
        self.annotations[key] = text
        return {"url": self.urls[key], "annotation": text}

    async def submit(self, *items: dict[str, str]) -> str:
        """Submit a list, as often as it takes; return the batch's id."""
        batch_id = await submit(self.client, items)
        self.batches.append(batch_id)
        return batch_id

    async def publish(self, body: bytes, queue: str, headers: dict[str, Any]) -> None:
        """Put a message into a queue."""
        async with open_publisher(self.pipeline.amqp) as publisher:
            await publisher.publish(body, queue=queue, headers=headers)

    async def depth_is(self, queue: str, count: int) -> None:
        """Wait until a queue has so many messages."""
        async with open_publisher(self.pipeline.amqp) as publisher:

            async def has_them() -> bool:
                return await publisher.depth(queue) == count

            await eventually(has_them, seconds=PATIENCE_SECONDS)

    def _arm(self, window: Window, at: int = 1) -> None:
        arm(self.folder / window.value.title, at)

    async def _await_killed(self, window: Window) -> None:
        proof = self.folder / f"{window.value.title}{DONE_SUFFIX}"

        async def is_killed() -> bool:
            return proof.exists()

        try:
            await eventually(is_killed, seconds=PATIENCE_SECONDS)
        except TimeoutError:
            raise AssertionError(f"nothing was killed here: {window.value.title}") from None

    async def _run(self, *arguments: str) -> tuple[int | None, str]:
        servers = self.pipeline.addresses.environment()
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", "--"),
            *(sys.executable, "-m", "tests.chaos.windows", COMMAND, *arguments),
            env=child_environment({**servers, FOLDER_VARIABLE: str(self.folder)}),
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode, output.decode()


@asynccontextmanager
async def without_events(store: ObjectStore) -> AsyncIterator[None]:
    """Disable the bucket's notifications during the block, as if MinIO had been killed."""
    await store.client.put_bucket_notification_configuration(
        Bucket=store.bucket, NotificationConfiguration={}
    )
    try:
        yield
    finally:
        await set_up_bucket(store, notification_arn=USUAL_ARN)
