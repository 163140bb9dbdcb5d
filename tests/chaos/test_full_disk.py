"""The disk under MinIO's folder of events fills up while RabbitMQ is away."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.common.settlement import OCR_QUEUES
from services.reconciler.settings import ReconcilerSettings
from services.reconciler.walk import make_pass
from tests.support.images import line_image
from tests.support.pipeline import open_client, open_pipeline
from tests.support.waiting import eventually

pytestmark = pytest.mark.e2e

FOLDER_BYTES = 64 * 1024
MOST_EVENTS = FOLDER_BYTES // 4096
"""Each takes a page."""
IMAGES = 40


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a file system of ``FOLDER_BYTES`` at a folder."""
    folder.mkdir(parents=True)
    options = f"size={FOLDER_BYTES},mode=0700,uid={os.getuid()},gid={os.getgid()}"
    mounted = subprocess.run(  # noqa: S603  a list of arguments, no shell
        ["mount", "-t", "tmpfs", "-o", options, "docreco-test", str(folder)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode and "CI" not in os.environ:
        pytest.skip(f"mounting a small disk needs root: {mounted.stderr.strip()}")
    assert mounted.returncode == 0, mounted.stderr
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S603, S607


async def test_events_that_a_full_disk_swallowed_are_found_by_the_reconciler(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = {f"full/{number}.png": line_image(f"Full {number}") for number in range(IMAGES)}
    with small_disk(tmp_path / "minio" / "events"):
        async with open_pipeline(tmp_path) as pipeline, open_client(pipeline) as client:
            pipeline.signal("rabbitmq", signal.SIGSTOP)
            try:
                for key, image in images.items():  # each is acknowledged, event or not
                    await client.store.write(key, image, content_type="image/png", metadata={})
            finally:
                pipeline.signal("rabbitmq", signal.SIGCONT)
            await client.count_reaches(1, {"status": "predicted"}, seconds=90)
            written = await client.store.now()

            async def is_old_enough() -> bool:  # its clock counts whole seconds
                return await client.store.now() > written

            await eventually(is_old_enough)
            report = await make_pass(
                ReconcilerSettings(min_age_seconds=0),
                store=client.store,
                images=client.index.images,
                amqp=pipeline.amqp,
                queues=OCR_QUEUES,
            )
            assert report.queued >= IMAGES - MOST_EVENTS
            await client.count_reaches(IMAGES, {"status": "predicted"}, seconds=90)
            assert await client.index.images.count({}) == IMAGES
    with capsys.disabled():
        print(f"\nfull disk: {report.queued} of {IMAGES} queued by the reconciler")  # noqa: T201
