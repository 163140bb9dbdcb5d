"""MinIO users with least privileges, one per service.

The administration API is MinIO's own, not S3's.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import urllib3
from minio import MinioAdmin
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException

from services.common.domain.errors import ObjectStoreUnavailableError
from services.common.domain.keys import COLLECTED, FETCHED, GIVEN, LINES, RENDERED
from services.common.runtime.settings import S3Settings
from services.provisioner.settings import UsersSettings

ALREADY_ATTACHED = "PolicyChangeAlreadyApplied"
READ = ["s3:GetObject"]
READ_WRITE = ["s3:GetObject", "s3:PutObject"]
DELETE = ["s3:GetObject", "s3:DeleteObject", "s3:DeleteObjectVersion"]

_Right = tuple[list[str], str]
"""Actions, and what they are allowed on."""


class _Bucket:
    """Rights of a bucket, and names of what they are about."""

    def __init__(self, name: str) -> None:
        self.arn = f"arn:aws:s3:::{name}"
        self.found: _Right = (["s3:GetBucketLocation", "s3:ListBucket"], self.arn)
        self.listed: _Right = (["s3:ListBucket"], self.arn)
        self.versions: _Right = (["s3:ListBucketVersions"], self.arn)

    def under(self, prefix: str = "") -> str:
        """Return the objects whose keys begin so."""
        return f"{self.arn}/{prefix}*"


def policies(bucket: str, submitted: str, pages: str) -> dict[str, dict[str, Any]]:
    """Return each service's policy by its user's name.

    Most may list the bucket: without that right, stores other than MinIO answer 403 instead of 404
    for a missing object. The OCR API, which decodes untrusted files, may not, and reads its own
    objects only. The reconciler listens to uploads, and needs objects' metadata, which in S3
    requires the right to read. The review page deletes all versions of an object on request; the
    consumer deletes forgotten images that came back. Of pages the fetcher writes those that it
    fetched, and those that came with a transcription. The segmenter writes lines and the pages of
    documents, and deletes what came of a page that is gone. Submitted files belong to the fetcher
    alone.
    """
    images, all_pages = _Bucket(bucket), _Bucket(pages)
    lines, files = images.under(LINES), _Bucket(submitted)
    return {
        "ocr-api": _statements((READ_WRITE, images.under(COLLECTED))),
        "fetcher": _statements(
            *(images.found, all_pages.listed, files.listed),
            *((READ_WRITE, each) for each in (images.under(FETCHED), lines)),
            *((READ_WRITE, all_pages.under(prefix)) for prefix in (FETCHED, GIVEN)),
            ([*READ_WRITE, "s3:AbortMultipartUpload"], files.under()),
        ),
        "consumer": _statements(images.found, images.versions, (DELETE, images.under())),
        "reconciler": _statements(
            *(images.found, all_pages.found),
            (["s3:ListenBucketNotification"], images.arn),
            *((READ, each.under()) for each in (images, all_pages)),
        ),
        "segmenter": _statements(
            *(images.listed, all_pages.found, all_pages.versions),
            (DELETE, all_pages.under()),
            (["s3:PutObject"], all_pages.under(RENDERED)),
            ([*READ_WRITE, "s3:DeleteObject"], lines),
        ),
        "review": _statements(
            *(images.found, all_pages.listed, images.versions),
            (DELETE, images.under()),
            (READ, all_pages.under()),
        ),
    }


def _statements(*rights: _Right) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": actions, "Resource": [resource]}
            for actions, resource in rights
        ],
    }


def apply_store_users(settings: S3Settings, users: UsersSettings) -> None:
    """Create or replace the users whose password is set, and their policies.

    Blocking: call it in a thread.

    Args:
        settings: MinIO, with its administrator's credentials.
        users: The passwords.

    Raises:
        ObjectStoreUnavailableError: MinIO does not answer, or refuses.
    """
    passwords = {
        "ocr-api": users.ocr_api_password,
        "fetcher": users.fetcher_password,
        "consumer": users.consumer_password,
        "reconciler": users.reconciler_password,
        "review": users.review_password,
        "segmenter": users.segmenter_password,
    }
    admin = _open(settings)
    for name, policy in policies(
        settings.bucket, settings.submitted_bucket, settings.pages_bucket
    ).items():
        if (password := passwords[name]) is not None:
            _ask(partial(admin.policy_add, name, policy=policy))
            _ask(partial(admin.user_add, name, password.get_secret_value()))
            _ask(partial(admin.attach_policy, [name], user=name))


def _open(settings: S3Settings) -> MinioAdmin:
    url = settings.endpoint_url
    return MinioAdmin(
        endpoint=f"{url.host}:{url.port}",
        credentials=StaticProvider(
            settings.access_key_id, settings.secret_access_key.get_secret_value()
        ),
        region=settings.region,
        secure=url.scheme == "https",
        http_client=urllib3.PoolManager(
            timeout=urllib3.Timeout(
                connect=settings.connect_timeout_seconds, read=settings.read_timeout_seconds
            ),
            retries=False,
        ),
    )


def _ask(request: Callable[[], object]) -> None:
    try:
        request()
    except MinioAdminException as error:
        if ALREADY_ATTACHED not in str(error):
            raise ObjectStoreUnavailableError(str(error)) from error
    except urllib3.exceptions.HTTPError as error:
        raise ObjectStoreUnavailableError(f"{type(error).__name__}: {error}") from error
