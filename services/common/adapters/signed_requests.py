"""Reads and writes of one object by plain signed requests, without the S3 client.

The client takes four times the CPU for them. It does everything else, and whatever is not answered
with success here: errors and retries are its own.

See docs/decisions/0054-plain-requests-first.md.
"""

import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from math import inf
from urllib.parse import quote

import aiohttp
from yarl import URL

from services.common.domain.objects import ObjectInfo, StoredObject
from services.common.runtime.settings import S3Settings

_EMPTY_SHA256 = hashlib.sha256().hexdigest()
_LARGEST_PIECE = 1024 * 1024
_METADATA = "x-amz-meta-"
_ERRORS = (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError)


class Signer:
    """Signs requests to a store (AWS Signature Version 4)."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self.base = str(settings.endpoint_url).rstrip("/")
        self._host = URL(self.base).raw_authority
        self._path = URL(self.base).raw_path.rstrip("/")

    def headers(
        self,
        method: str,
        path: str,
        query: str = "",
        *,
        content_sha256: str = _EMPTY_SHA256,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        """Return the headers of a request with its signature.

        Args:
            method: Of HTTP.
            path: ``/bucket/key``, percent-encoded.
            query: Sorted and percent-encoded.
            content_sha256: Of the body.
            headers: Others to sign, names in lower case.

        Raises:
            UnicodeEncodeError: A header is not in ASCII.
        """
        given = self._settings
        at = datetime.now(tz=UTC).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{at[:8]}/{given.region}/s3/aws4_request"
        signed = {
            **(headers or {}),
            "host": self._host,
            "x-amz-content-sha256": content_sha256,
            "x-amz-date": at,
        }
        names = ";".join(sorted(signed))
        lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        request = f"{method}\n{self._path}{path}\n{query}\n{lines}\n{names}\n{content_sha256}"
        digest = hashlib.sha256(request.encode("ascii")).hexdigest()
        key = _key(given.secret_access_key.get_secret_value(), scope)
        signature = _hmac(key, f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{digest}").hex()
        signed["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={given.access_key_id}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )
        return signed


class SignedRequests:
    """Reads and writes objects; returns None for anything but success.

    Args:
        session: Open client session; the caller closes it.
        signer: Of the store.
    """

    def __init__(self, session: aiohttp.ClientSession, signer: Signer) -> None:
        self._session = session
        self._signer = signer

    async def read(self, bucket: str, key: str, *, max_bytes: int) -> StoredObject | None:
        """Read a whole object of at most ``max_bytes``."""
        path = f"/{bucket}/{quote(key)}"
        try:
            headers = self._signer.headers("GET", path)
            async with self._session.get(
                self._url(path), headers=headers, allow_redirects=False
            ) as response:
                if response.status != HTTPStatus.OK or (response.content_length or inf) > max_bytes:
                    return None
                return StoredObject(_info(key, response), await response.read())
        except _ERRORS:
            return None

    async def write(
        self,
        bucket: str,
        key: str,
        content: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
    ) -> str | None:
        """Write an object of at most 1 MiB, which aiohttp sends in one piece; return its ETag."""
        if len(content) > _LARGEST_PIECE:
            return None
        path = f"/{bucket}/{quote(key)}"
        given = {f"{_METADATA}{name.lower()}": value for name, value in metadata.items()}
        given["content-type"] = content_type
        try:
            headers = self._signer.headers(
                "PUT", path, content_sha256=hashlib.sha256(content).hexdigest(), headers=given
            )
            async with self._session.put(
                self._url(path), data=content, headers=headers, allow_redirects=False
            ) as response:
                is_written = response.status == HTTPStatus.OK
                return response.headers["ETag"].strip('"') if is_written else None
        except _ERRORS:
            return None

    def _url(self, path: str) -> URL:
        return URL(f"{self._signer.base}{path}", encoded=True)


@asynccontextmanager
async def open_signed_requests(settings: S3Settings) -> AsyncIterator[SignedRequests]:
    """Open connections for an ``async with`` block; proxies of the environment are ignored."""
    timeout = aiohttp.ClientTimeout(
        total=None,
        sock_connect=settings.connect_timeout_seconds,
        sock_read=settings.read_timeout_seconds,
    )
    async with aiohttp.ClientSession(
        timeout=timeout,
        trust_env=False,
        auto_decompress=False,
        headers={"Accept-Encoding": "identity"},
        connector=aiohttp.TCPConnector(limit=64),
    ) as session:
        yield SignedRequests(session, Signer(settings))


def _info(key: str, response: aiohttp.ClientResponse) -> ObjectInfo:
    headers = response.headers
    return ObjectInfo(
        key=key,
        etag=headers["ETag"].strip('"'),
        size=int(headers["Content-Length"]),
        stored_at=parsedate_to_datetime(headers["Last-Modified"]),
        content_type=headers.get("Content-Type"),
        metadata={
            name.lower().removeprefix(_METADATA): value
            for name, value in headers.items()
            if name.lower().startswith(_METADATA)
        },
    )


@lru_cache(maxsize=8)
def _key(secret: str, scope: str) -> bytes:
    """Return the key of a day, a region and a service."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
