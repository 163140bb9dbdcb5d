"""Submit a list, the bundled samples, or the bundled page."""

import hashlib
import json
from dataclasses import asdict
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
from services.common.domain.redaction import hide_secrets
from services.fetcher.sources.lists.documents import MAX_NAME_LENGTH

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
        return await submit_bundled(
            fetcher, made, "samples.csv", ListRequest(name="bundled samples")
        )
    if is_address(source):
        content_bytes, file_name = await _downloaded(source)
        request = ListRequest(name=hide_secrets(source)[:MAX_NAME_LENGTH])
        return await fetcher.submit_file(
            BytesIO(content_bytes), file_name=file_name, request=request
        )
    return await send(fetcher, source, ListRequest(name=Path(source).name))


async def submit_page(fetcher: FetcherClient) -> Submission:
    """Submit the bundled page."""
    request = ListRequest(name="bundled page", pages=True)
    return await submit_bundled(fetcher, PAGE_FILE.read_bytes(), PAGE_FILE.name, request)


async def submit_bundled(
    fetcher: FetcherClient, content: bytes, file_name: str, request: ListRequest
) -> Submission:
    """Submit a file, as the same batch by each start until the file or what is asked changes."""
    said = json.dumps([file_name, asdict(request)], sort_keys=True).encode()
    digest = hashlib.sha256(hashlib.sha256(said).digest() + content).hexdigest()
    return await fetcher.submit_file(
        BytesIO(content),
        file_name=file_name,
        request=request,
        idempotency_key=f"bundled-{digest}",
    )


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
