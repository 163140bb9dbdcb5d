"""Submit a list, the bundled samples, or the bundled page."""

import hashlib
from io import BytesIO
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import aiohttp
from aiohttp import ClientSession, ClientTimeout

from infra.local.errors import LocalError
from infra.local.site import FOLDER, LIST_NAME, PAGE_FILE, absolute_list, site_url
from services.cli.submit import send
from services.common.adapters.fetcher_api import FetcherClient
from services.common.domain.fetcher_answers import ListRequest, Submission

MAX_LIST_BYTES = 64 * 1024 * 1024
LIST_TIMEOUT_SECONDS = 60.0


class ListError(LocalError):
    """The list can't be read."""


async def submit(source: str | None, samples_port: int, fetcher: FetcherClient) -> Submission:
    """Submit a list by its path or address; None: the bundled samples.

    Raises:
        ListError: The list can't be read.
    """
    if source is None:
        content = (FOLDER / LIST_NAME).read_text()
        made = absolute_list(content, site_url(samples_port, "")).encode()
        return await fetcher.submit_file(
            BytesIO(made),
            file_name="samples.csv",
            request=ListRequest(name="bundled samples"),
            idempotency_key=_key_of(made),
        )
    if is_address(source):
        content_bytes, file_name = await _downloaded(source)
        request = ListRequest(name=source)
        return await fetcher.submit_file(
            BytesIO(content_bytes), file_name=file_name, request=request
        )
    return await send(fetcher, source, ListRequest(name=Path(source).name))


async def submit_page(fetcher: FetcherClient) -> Submission:
    """Submit the bundled page."""
    request, content = ListRequest(name="bundled page", pages=True), PAGE_FILE.read_bytes()
    return await fetcher.submit_file(
        BytesIO(content),
        file_name=PAGE_FILE.name,
        request=request,
        idempotency_key=_key_of(content),
    )


def _key_of(content: bytes) -> str:
    """Return the key by which each start submits the same batch, until its content changes."""
    return f"bundled-{hashlib.sha256(content).hexdigest()}"


def is_address(source: str) -> bool:
    """Whether a list is a URL."""
    return source.startswith(("http://", "https://"))


async def _downloaded(address: str) -> tuple[bytes, str]:
    """Download a list; return it with a file name that implies its format."""
    timeout = ClientTimeout(total=LIST_TIMEOUT_SECONDS)
    try:
        async with (
            ClientSession(timeout=timeout, raise_for_status=True) as session,
            session.get(address) as response,
        ):
            content = await response.content.read(MAX_LIST_BYTES + 1)
            while len(content) <= MAX_LIST_BYTES and (more := await response.content.read(65536)):
                content += more
            is_table = response.content_type == "text/csv"
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        reason = str(error) or "no answer in time"
        raise ListError(f"the list at {address} can't be downloaded: {reason}") from error
    if len(content) > MAX_LIST_BYTES:
        raise ListError(f"the list at {address} is larger than {MAX_LIST_BYTES} bytes")
    name = PurePosixPath(urlsplit(address).path).name
    return content, name if "." in name else f"list.{'csv' if is_table else 'txt'}"
