"""Progress of a batch: reasons of failures, and bytes of its images."""

from services.cli.watch import so_far
from services.common.domain.fetcher_answers import BatchDetails
from tests.support.fetcher import Surroundings, running_fetcher
from tests.support.images import line_image
from tests.support.waiting import eventually
from tests.support.web import open_site


async def test_finished_batch_keeps_its_reasons_and_bytes(surroundings: Surroundings) -> None:
    image = line_image("Bytes")
    async with (
        open_site() as site,
        running_fetcher(surroundings) as api,
    ):
        urls = [site.add_body("/a.png", image), site.add_body("/b.html", b"<html>")]
        urls += [f"{urls[0]}.missing", f"{urls[0]}.missing.too"]
        items = [{"url": url} for url in urls]
        async with api.post("/batches", json={"items": items}) as response:
            batch_id = (await response.json())["batch_id"]

        async def finished() -> BatchDetails | None:
            async with api.get(f"/batches/{batch_id}") as response:
                batch = BatchDetails.model_validate(await response.json())
            return batch if batch.is_finished else None

        first = await eventually(finished)
        again = await eventually(finished)  # what the first look kept

    for batch in (first, again):
        assert batch.failure_codes == {"not_found": 2, "not_an_image": 1}
        assert batch.size_bytes == len(image)
    words = so_far(again)
    assert words.startswith("1 stored, 3 failed (")
    assert "2 not_found" in words
    assert "1 not_an_image" in words
