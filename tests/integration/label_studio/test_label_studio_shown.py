"""Only images that browsers show as the OCR API reads them become tasks in Label Studio."""

import pytest

from tests.support.datasets import Collected, answer, docreco, prediction
from tests.support.images import differing_images, readable_images
from tests.support.label_studio import LabelStudioFake

SHOWN = ("png", "jpeg", "gif", "exif-rotated jpeg", "alpha that hides nothing")
NOT_SHOWN = ("tiff", "bmp", "cmyk jpeg", "transparent paper", "16 bits", "animated gif")


@pytest.fixture
async def collected(collected: Collected) -> Collected:
    images = readable_images("image") | differing_images("image")
    for number, name in enumerate((*NOT_SHOWN, *SHOWN)):  # the worst are not shown
        read = prediction("image", score=number / 100)
        await collected.add(name, "image", content=images[name], prediction=read)
    return collected


def keys(studio: LabelStudioFake) -> list[str]:
    return [task["data"]["image_id"].partition("/")[2] for task in studio.tasks.values()]


@pytest.mark.usefixtures("collected")
async def test_other_images_are_skipped_and_counted(studio: LabelStudioFake) -> None:
    told = await answer("label-studio", "push")

    assert keys(studio) == list(SHOWN)
    assert told["created"] == len(SHOWN)
    assert told["not_shown"] == len(NOT_SHOWN)


@pytest.mark.usefixtures("collected", "studio")
async def test_command_says_where_skipped_images_are_annotated() -> None:
    status, output = await docreco("label-studio", "push")

    words = " ".join(output.split())
    assert status == 0
    assert f"{len(NOT_SHOWN)} images without task" in words
    assert "review page" in words


@pytest.mark.usefixtures("collected")
async def test_skipped_images_take_no_room(studio: LabelStudioFake) -> None:
    await answer("label-studio", "push", "--limit", "2")

    assert keys(studio) == list(SHOWN[:2])


async def test_task_that_shows_nothing_is_deleted(
    collected: Collected, studio: LabelStudioFake
) -> None:
    await answer("label-studio", "push", "--limit", "1")
    tiff = readable_images("image")["tiff"]
    (task,) = studio.tasks.values()
    # As an earlier version has pushed it: the object is a TIFF, and the address runs out
    etag = await collected.store.write("png", tiff, content_type="image/tiff", metadata={})
    await collected.set("png", etag=etag)
    task["data"]["etag"] = etag

    told = await answer("label-studio", "push", "--limit", "1")

    assert told["deleted"] == 1
    assert "png" not in keys(studio)
