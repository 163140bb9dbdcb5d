"""A list for which there is no room is answered so, and the next one is taken."""

from io import BytesIO
from typing import Any

import aiohttp
import pytest

from services.fetcher.sources.archives.settings import ArchiveSettings
from tests.support.fetcher import Surroundings, running_fetcher, submit

SMALL = ArchiveSettings(
    max_archive_bytes=1024, max_archive_decoded_bytes=1024, max_spool_bytes=2048
)
TEXT = b"http://127.0.0.1:1/" + b"x" * 3000


def form() -> aiohttp.FormData:
    made = aiohttp.FormData()
    made.add_field("file", BytesIO(TEXT), filename="list.txt")
    return made


@pytest.mark.parametrize("as_form", [True, False])
async def test_list_that_finds_no_room_is_a_problem_that_passes(
    surroundings: Surroundings, *, as_form: bool
) -> None:
    sent: dict[str, Any] = {"data": form()}
    if not as_form:
        sent = {"data": TEXT, "headers": {"Content-Type": "text/plain"}}
    async with running_fetcher(surroundings, archives=SMALL) as api:
        async with api.post("/batches", **sent) as response:
            assert (response.status, (await response.json())["code"]) == (503, "no_space")
            assert int(response.headers["Retry-After"]) > 0
        assert (await submit(api, "http://127.0.0.1:1/a"))["accepted"] == 1
