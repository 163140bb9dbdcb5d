"""Bundled samples, which ``run_local.sh`` submits at each start."""

from typing import IO, Any, cast

from infra.local.submission import submit, submit_bundled
from services.common.adapters.fetcher_api import FetcherClient
from services.common.domain.fetcher_answers import ListRequest, Submission
from services.fetcher.sources.lists.documents import MAX_NAME_LENGTH
from tests.support.web import open_site


class Fetcher:
    """Notes keys: the real one takes a key for the same batch, and refuses another file with it."""

    def __init__(self) -> None:
        self.keys: list[str | None] = []
        self.names: list[str | None] = []

    async def submit_file(
        self, _: IO[bytes], *, request: ListRequest, idempotency_key: str | None = None, **__: Any
    ) -> Submission:
        self.keys.append(idempotency_key)
        self.names.append(request.name)
        return Submission(batch_id="b1", accepted=1, rejected=[])


async def test_bundled_file_is_a_new_batch_when_what_is_asked_changes() -> None:
    fetcher = Fetcher()
    lines, pages = ListRequest(name="samples"), ListRequest(name="samples", pages=True)
    named = ListRequest(name="other samples")
    calls = [
        *((b"a", "a.csv", lines), (b"a", "a.csv", lines), (b"b", "a.csv", lines)),
        *((b"a", "b.csv", lines), (b"a", "a.csv", pages), (b"a", "a.csv", named)),
    ]

    for content, name, request in calls:
        await submit_bundled(cast("FetcherClient", fetcher), content, name, request)

    assert fetcher.keys[0] == fetcher.keys[1]
    assert len({*fetcher.keys}) == 5


async def test_list_at_an_address_is_named_by_it_without_its_secrets() -> None:
    fetcher = Fetcher()
    async with open_site() as site:
        url = site.add_body("/list.txt", b"http://x.test/a.png")
        long = site.add_body(f"/{'x' * 300}.txt", b"http://x.test/a.png")
        for each in (f"{url}?X-Amz-Signature={'0' * 300}", long):
            await submit(each, 0, cast("FetcherClient", fetcher))

    assert fetcher.names == [f"{url}?\N{HORIZONTAL ELLIPSIS}", long[:MAX_NAME_LENGTH]]
