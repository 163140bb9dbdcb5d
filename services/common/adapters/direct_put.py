"""S3's PutObject as one plain HTTP request, for whoever writes many objects whose hash is known.

The client takes 2 ms of CPU for it, five times as long as the request itself. Only a write that is
acknowledged counts here: for everything else the caller asks the client, which knows what to do.

See docs/decisions/0026-signed-put-requests.md.
"""

import hmac
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from http import HTTPStatus
from io import BytesIO
from urllib.parse import quote

import aiohttp
import structlog
from yarl import URL

from services.common.runtime.settings import S3Settings

log = structlog.stdlib.get_logger(__name__)

CONNECTIONS = 64
KEPT_ALIVE_SECONDS = 12.0
_ALGORITHM = "AWS4-HMAC-SHA256"
_UNRESERVED = "/-._~"
"""What a key's percent-encoding leaves alone, with letters and digits."""


class Signature:
    """Signs requests that have no query by AWS Signature Version 4, in their headers.

    See "Authenticating Requests: Using the Authorization Header" of the S3 API reference.

    Args:
        settings: User, password and region.
    """

    def __init__(self, settings: S3Settings) -> None:
        self._user = settings.access_key_id
        self._password = settings.secret_access_key
        self._region = settings.region
        self._day, self._key = "", b""

    def sign(
        self, method: str, path: str, headers: Mapping[str, str], *, digest: str, now: datetime
    ) -> dict[str, str]:
        """Return the headers that a request is sent with.

        Args:
            method: In capitals.
            path: Percent-encoded.
            headers: All that are to be signed, the host among them; names in lower case.
            digest: SHA-256 of the body, in hexadecimal.
            now: Time, in UTC.
        """
        time = now.strftime("%Y%m%dT%H%M%SZ")
        signed = {**headers, "x-amz-content-sha256": digest, "x-amz-date": time}
        names = sorted(signed)
        lines = (f"{name}:{' '.join(signed[name].split())}" for name in names)
        listed = ";".join(names)
        request = "\n".join((method, path, "", *lines, "", listed, digest))
        scope = f"{time[:8]}/{self._region}/s3/aws4_request"
        hashed = sha256(request.encode()).hexdigest()
        signature = _keyed(self._key_of(time[:8]), f"{_ALGORITHM}\n{time}\n{scope}\n{hashed}").hex()
        signed["authorization"] = (
            f"{_ALGORITHM} Credential={self._user}/{scope}, "
            f"SignedHeaders={listed}, Signature={signature}"
        )
        return signed

    def _key_of(self, day: str) -> bytes:
        if day != self._day:
            key = f"AWS4{self._password.get_secret_value()}".encode()
            for part in (day, self._region, "s3", "aws4_request"):
                key = _keyed(key, part)
            self._day, self._key = day, key
        return self._key


class DirectPut:
    """Writes objects of one bucket.

    Args:
        session: Its connections are kept; the caller closes it.
        settings: Where the bucket is, and who writes.
    """

    def __init__(self, session: aiohttp.ClientSession, settings: S3Settings) -> None:
        self._session = session
        self._signature = Signature(settings)
        endpoint = URL(str(settings.endpoint_url))
        self._origin = str(endpoint.origin())
        self._host = self._origin.partition("://")[2]
        # percent-encoded once more, as the client does: both must mean the same place
        above = quote((settings.endpoint_url.path or "").rstrip("/"), safe=_UNRESERVED)
        self._folder = f"{above}/{settings.bucket}/"

    async def __call__(
        self, key: str, content: bytes, *, digest: str, headers: Mapping[str, str]
    ) -> str | None:
        """Write an object, replacing what has its key.

        Args:
            key: Of the object.
            content: Its bytes.
            digest: Their SHA-256, in hexadecimal; the server checks it.
            headers: Content type and user metadata; names in lower case.

        Returns:
            Its ETag; None where it was not acknowledged, whatever the reason: it may still be
            there.
        """
        if not all(value.isascii() and value.isprintable() for value in headers.values()):
            return None  # no header can say it
        path = self._folder + quote(key, safe=_UNRESERVED)
        signed = self._signature.sign(
            "PUT",
            path,
            {**headers, "host": self._host},
            digest=digest,
            now=datetime.now(tz=UTC),
        )
        url = URL(self._origin + path, encoded=True)
        try:
            async with self._session.put(
                url, data=BytesIO(content), headers=signed, allow_redirects=False
            ) as answer:  # bytes would be sent in one piece, and nobody else be served meanwhile
                await answer.read()  # or its connection could not be used again
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.info("object not written at once", error=f"{type(error).__name__}: {error}"[:300])
            return None
        etag = answer.headers.get("ETag", "").strip('"')
        if answer.status != HTTPStatus.OK or not etag:
            log.info("object not written at once", status=answer.status)
            return None
        return etag


@asynccontextmanager
async def open_direct_put(
    settings: S3Settings, *, tls: ssl.SSLContext | None
) -> AsyncIterator[DirectPut]:
    """Open connections for the length of an ``async with`` block; nothing is sent yet.

    Args:
        settings: Where the bucket is, who writes, and how long may be waited.
        tls: Knows whom to trust; None where the address is plain http.
    """
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=CONNECTIONS, keepalive_timeout=KEPT_ALIVE_SECONDS, ssl=tls or True
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(
            total=None,
            sock_connect=settings.connect_timeout_seconds,
            sock_read=settings.read_timeout_seconds,
        ),
        skip_auto_headers=("User-Agent", "Accept"),
    ) as session:
        yield DirectPut(session, settings)


def _keyed(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
