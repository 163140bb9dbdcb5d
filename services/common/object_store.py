"""MinIO, or any S3 server: the only file that knows the client."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from types_aiobotocore_s3.client import S3Client

from services.common.errors import ObjectNotFoundError, ObjectStoreUnavailableError
from services.common.settings import S3Settings

_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})


@dataclass(frozen=True)
class ObjectInfo:
    """What a store knows of an object."""

    key: str
    etag: str
    size: int
    """Bytes."""
    stored_at: datetime
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    """User metadata, names in lower case."""


@dataclass(frozen=True)
class StoredObject:
    """An object and its bytes, of one and the same version."""

    info: ObjectInfo
    content: bytes


class ObjectStore:
    """One bucket.

    Args:
        client: Open S3 client; the caller closes it.
        bucket: Its name.
    """

    def __init__(self, client: S3Client, bucket: str) -> None:
        self.client = client
        self.bucket = bucket

    async def read(self, key: str) -> StoredObject:
        """Read a whole object.

        Raises:
            ObjectNotFoundError: No object has this key.
            ObjectStoreUnavailableError: The server does not answer, or answers with an error.
        """
        async with self._errors(key):
            response = await self.client.get_object(Bucket=self.bucket, Key=key)
            async with response["Body"] as body:
                content = await body.read()
            return StoredObject(_info(key, response), content)

    async def head(self, key: str) -> ObjectInfo | None:
        """Return what is known of an object, or None where there is none.

        Raises:
            ObjectStoreUnavailableError: The server does not answer, or answers with an error.
        """
        try:
            async with self._errors(key):
                return _info(key, await self.client.head_object(Bucket=self.bucket, Key=key))
        except ObjectNotFoundError:
            return None

    async def write(
        self, key: str, content: bytes, *, content_type: str, metadata: Mapping[str, str]
    ) -> str:
        """Write an object, replacing what has its key, and return its ETag.

        Raises:
            ObjectStoreUnavailableError: It was not acknowledged; it may still be there.
        """
        async with self._errors(key):
            response = await self.client.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=content,
                ContentType=content_type,
                Metadata=dict(metadata),
            )
            return response["ETag"].strip('"')

    async def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no error.

        Raises:
            ObjectStoreUnavailableError: The server does not answer, or answers with an error.
        """
        async with self._errors(key):
            await self.client.delete_object(Bucket=self.bucket, Key=key)

    async def check(self) -> None:
        """Raise ObjectStoreUnavailableError unless the bucket answers."""
        async with self._errors(""):
            await self.client.head_bucket(Bucket=self.bucket)

    @asynccontextmanager
    async def _errors(self, key: str) -> AsyncIterator[None]:
        try:
            yield
        except ClientError as error:
            problem = error.response.get("Error", {})
            if key and problem.get("Code") in _MISSING:
                raise ObjectNotFoundError(self.bucket, key) from error
            reason = f"{problem.get('Code')}: {problem.get('Message')}"
            raise ObjectStoreUnavailableError(reason) from error
        except (BotoCoreError, HTTPClientError, OSError, TimeoutError) as error:
            raise ObjectStoreUnavailableError(f"{type(error).__name__}: {error}") from error


@asynccontextmanager
async def open_object_store(settings: S3Settings) -> AsyncIterator[ObjectStore]:
    """Open a client for the length of an ``async with`` block; nothing is sent yet."""
    async with get_session().create_client(
        "s3",
        endpoint_url=str(settings.endpoint_url),
        region_name=settings.region,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key.get_secret_value(),
        config=AioConfig(
            connect_timeout=settings.connect_timeout_seconds,
            read_timeout=settings.read_timeout_seconds,
            max_pool_connections=64,
            retries={"mode": "standard", "total_max_attempts": 3},
            s3={"addressing_style": "path"},
        ),
    ) as client:
        yield ObjectStore(client, settings.bucket)


def _info(key: str, response: Any) -> ObjectInfo:
    return ObjectInfo(
        key=key,
        etag=response["ETag"].strip('"'),
        size=response["ContentLength"],
        stored_at=response["LastModified"],
        content_type=response.get("ContentType"),
        metadata={name.lower(): value for name, value in response["Metadata"].items()},
    )
