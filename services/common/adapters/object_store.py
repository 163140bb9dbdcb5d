"""Adapter of MinIO or any S3 server, the only user of the client.

docs/decisions/0034-aiobotocore-writes-every-object.md says why there is no signer of our own.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import IO, TYPE_CHECKING, Any

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from services.common.domain.errors import ObjectNotFoundError, ObjectStoreUnavailableError
from services.common.domain.objects import (
    LoadedObject,
    ObjectInfo,
    ObjectTooLargeError,
    UnreadableObjectError,
)
from services.common.runtime.settings import S3Settings

if TYPE_CHECKING:  # stubs are a development dependency
    from types_aiobotocore_s3.client import S3Client

_SERVER_FAULTS = (BotoCoreError, HTTPClientError, aiohttp.ClientError, OSError, TimeoutError)
"""aiobotocore passes aiohttp's own error on if a body ends early."""

_ATTEMPTS = 3
"""Of a request."""
_SLOWEST_BYTES_PER_SECOND = 100_000

_PIECE_BYTES = 1024 * 1024
_PART_BYTES = 8 * 1024 * 1024
"""S3 requires at least 5 MiB, except for the last part, and at most 10,000 parts."""

_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_PRESENT = frozenset({"412", "PreconditionFailed"})


class ObjectStore:
    """One bucket; methods raise ObjectStoreUnavailableError if the server fails.

    Args:
        client: Open S3 client; the caller closes it.
        bucket: Its name.
        write_timeout_seconds: Limit to write an object, plus the transfer time of its bytes.
    """

    def __init__(self, client: "S3Client", bucket: str, *, write_timeout_seconds: float) -> None:
        self.client = client
        self.bucket = bucket
        self.write_timeout_seconds = write_timeout_seconds

    async def read(self, key: str, *, max_bytes: int) -> LoadedObject:
        """Read a whole object.

        Raises:
            ObjectNotFoundError: No object has this key.
            ObjectTooLargeError: It has more than ``max_bytes``; nothing was read.
        """
        async with self.errors(key):
            response = await self.client.get_object(Bucket=self.bucket, Key=key)
            async with response["Body"] as body:
                info = _info(key, response)
                if info.size > max_bytes:
                    raise ObjectTooLargeError(info, max_bytes)
                return LoadedObject(info, await body.read())

    async def head(self, key: str) -> ObjectInfo | None:
        """Return an object's metadata, or None if it does not exist."""
        try:
            async with self.errors(key):
                return _info(key, await self.client.head_object(Bucket=self.bucket, Key=key))
        except ObjectNotFoundError:
            return None

    async def write(
        self, key: str, content: bytes, *, content_type: str, metadata: Mapping[str, str]
    ) -> str:
        """Write or replace an object with user metadata (ASCII); return its ETag.

        Raises:
            ObjectStoreUnavailableError: It was not acknowledged; it may exist nevertheless.
        """
        return await self._put(key, content, ContentType=content_type, Metadata=dict(metadata))

    async def write_metadata(self, info: ObjectInfo, metadata: Mapping[str, str]) -> bool:
        """Replace an object's user metadata, which sends an event; return False if it is gone."""
        try:
            where: Any = {"Bucket": self.bucket, "Key": info.key}
            async with self.errors(info.key):
                await self.client.copy_object(
                    **where,
                    CopySource=where,
                    MetadataDirective="REPLACE",
                    Metadata=dict(metadata),
                    ContentType=info.content_type or "",
                )
        except ObjectNotFoundError:
            return False
        return True

    async def write_once(
        self, key: str, content: bytes, *, content_type: str, metadata: Mapping[str, str]
    ) -> bool:
        """Write an object unless its key is taken; return whether it was written.

        Raises:
            ObjectStoreUnavailableError: It was not acknowledged; it may exist nevertheless.
        """
        given: Any = {"ContentType": content_type, "Metadata": dict(metadata)}
        try:
            await self._put(key, content, IfNoneMatch="*", **given)
        except ObjectStoreUnavailableError as error:
            if _code_of(error.__cause__) not in _PRESENT:
                raise
            return False
        return True

    async def _put(self, key: str, content: bytes, **given: Any) -> str:
        """Write an object; return its ETag."""
        # The client has read timeouts only, no write timeout
        limit = self.write_timeout_seconds + len(content) / _SLOWEST_BYTES_PER_SECOND
        async with self.errors(), asyncio.timeout(limit):
            where: Any = {"Bucket": self.bucket, "Key": key}
            response = await self.client.put_object(**where, Body=content, **given)
            return response["ETag"].strip('"')

    @asynccontextmanager
    async def stream(self, key: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Stream an object's bytes in an ``async with`` block.

        Raises:
            ObjectNotFoundError: No object has this key.
            ObjectStoreUnavailableError: The server does not answer; also while reading.
        """
        async with self.errors(key):
            response = await self.client.get_object(Bucket=self.bucket, Key=key)
            async with response["Body"] as body:
                yield body.iter_chunks(_PIECE_BYTES)

    async def write_file(self, key: str, file: IO[bytes]) -> None:
        """Write an object of any length by a multipart upload, atomically."""
        where: Any = {"Bucket": self.bucket, "Key": key}
        await asyncio.to_thread(file.seek, 0)
        async with self.errors():
            started = await self.client.create_multipart_upload(**where)
            where["UploadId"] = started["UploadId"]
            parts: list[Any] = []
            try:
                while (part := await asyncio.to_thread(file.read, _PART_BYTES)) or not parts:
                    number = len(parts) + 1
                    done = await self.client.upload_part(**where, PartNumber=number, Body=part)
                    parts.append({"PartNumber": number, "ETag": done["ETag"]})
                await self.client.complete_multipart_upload(
                    **where, MultipartUpload={"Parts": parts}
                )
            except BaseException:
                with suppress(ClientError, *_SERVER_FAULTS):
                    await self.client.abort_multipart_upload(**where)
                raise

    async def delete(self, key: str) -> None:
        """Delete an object, if it exists."""
        async with self.errors(key):
            await self.client.delete_object(Bucket=self.bucket, Key=key)

    async def address(self, key: str, *, seconds: int) -> str:
        """Return a presigned URL to read an object."""
        where = {"Bucket": self.bucket, "Key": key}
        return await self.client.generate_presigned_url("get_object", where, ExpiresIn=seconds)

    async def list(
        self, prefix: str = "", *, after: str = "", upto: str = ""
    ) -> AsyncGenerator[ObjectInfo, None]:
        """Yield every object with a key prefix, read in pages of 1,000, sorted by UTF-8 bytes.

        A listing has neither content types nor user metadata, and its times are cut to
        milliseconds.

        Args:
            prefix: Of the keys.
            after: Only keys behind this one.
            upto: The last key; empty: there is no limit.
        """
        async with self.errors():
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, StartAfter=after
            )
            async for page in pages:
                for each in page.get("Contents", []):
                    if upto and each["Key"] > upto:
                        return
                    yield ObjectInfo(
                        each["Key"], each["ETag"].strip('"'), each["Size"], each["LastModified"]
                    )

    async def now(self) -> datetime:
        """Return the server's time in whole seconds, the clock of object timestamps."""
        async with self.errors():
            response = await self.client.head_bucket(Bucket=self.bucket)
            return parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])

    async def erase(self, key: str, *, etag: str | None = None) -> int:
        """Delete every version and delete marker of a key; return their number.

        Args:
            key: Of the object.
            etag: Of the versions to delete; None: all, and the delete markers.
        """
        async with self.errors():
            pages = self.client.get_paginator("list_object_versions").paginate(
                Bucket=self.bucket, Prefix=key
            )
            versions = [
                each["VersionId"]
                async for page in pages
                for each in (*page.get("Versions", []), *page.get("DeleteMarkers", []))
                if each["Key"] == key and etag in {None, str(each.get("ETag")).strip('"')}
            ]
            for version in versions:
                await self.client.delete_object(Bucket=self.bucket, Key=key, VersionId=version)
            return len(versions)

    async def check(self) -> None:
        """Raise ObjectStoreUnavailableError unless the bucket answers."""
        async with self.errors():
            await self.client.head_bucket(Bucket=self.bucket)

    @asynccontextmanager
    async def errors(self, key: str = "") -> AsyncIterator[None]:
        """Translate the client's errors.

        Args:
            key: Of the object that is asked for, which may be missing.
        """
        try:
            yield
        except ClientError as error:
            problem = error.response.get("Error", {})
            if key and problem.get("Code") in _MISSING:
                raise ObjectNotFoundError(self.bucket, key) from error
            reason = f"{problem.get('Code')}: {problem.get('Message')}"
            raise ObjectStoreUnavailableError(reason) from error
        except _SERVER_FAULTS as error:
            if isinstance(getattr(error, "kwargs", {}).get("error"), UnicodeError):
                raise UnreadableObjectError(f"{key}: its headers are not UTF-8") from error
            raise ObjectStoreUnavailableError(f"{type(error).__name__}: {error}") from error


def sibling(store: ObjectStore, bucket: str) -> ObjectStore:
    """Return another bucket that shares the connections."""
    return ObjectStore(store.client, bucket, write_timeout_seconds=store.write_timeout_seconds)


@asynccontextmanager
async def open_object_store(settings: S3Settings) -> AsyncIterator[ObjectStore]:
    """Open a client for an ``async with`` block; it connects lazily.

    Proxies of the environment are ignored.
    """
    async with _session().create_client(
        "s3",
        endpoint_url=str(settings.endpoint_url),
        region_name=settings.region,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key.get_secret_value(),
        config=AioConfig(
            connect_timeout=settings.connect_timeout_seconds,
            read_timeout=settings.read_timeout_seconds,
            max_pool_connections=64,
            proxies={},  # the default, None, uses those of the environment
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            signature_version="s3v4",  # the default presigns with version 2
            s3={"addressing_style": "path"},
        ),
    ) as client:
        limit = _ATTEMPTS * (settings.connect_timeout_seconds + settings.read_timeout_seconds)
        yield ObjectStore(client, settings.bucket, write_timeout_seconds=limit)


@cache
def _session() -> AioSession:
    """Return the shared session: each loads megabytes of service descriptions."""
    return get_session()


def _code_of(error: BaseException | None) -> str | None:
    return error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None


def _info(key: str, response: Any) -> ObjectInfo:
    return ObjectInfo(
        key=key,
        etag=response["ETag"].strip('"'),
        size=response["ContentLength"],
        stored_at=response["LastModified"],
        content_type=response.get("ContentType"),
        metadata={name.lower(): value for name, value in response["Metadata"].items()},
    )
