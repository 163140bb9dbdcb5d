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
    all_pages = f"arn:aws:s3:::{pages}/*"
    everything = f"arn:aws:s3:::{bucket}/*"
    fetched = f"arn:aws:s3:::{bucket}/{FETCHED}*"
    lines = f"arn:aws:s3:::{bucket}/{LINES}*"
    collected = f"arn:aws:s3:::{bucket}/{COLLECTED}*"
    of_pages = [f"arn:aws:s3:::{pages}/{prefix}*" for prefix in (FETCHED, GIVEN)]
    deleting = ["s3:GetObject", "s3:DeleteObject", "s3:DeleteObjectVersion"]
    listing_versions = (["s3:ListBucketVersions"], f"arn:aws:s3:::{bucket}")
    return {
        "ocr-api": _statements((["s3:GetObject", "s3:PutObject"], collected)),
        "fetcher": _policy(
            bucket,
            (["s3:GetObject", "s3:PutObject"], fetched),
            (["s3:GetObject", "s3:PutObject"], lines),
            *((["s3:GetObject", "s3:PutObject"], each) for each in of_pages),
            (["s3:ListBucket"], f"arn:aws:s3:::{pages}"),
            (["s3:ListBucket"], f"arn:aws:s3:::{submitted}"),
            (
                ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"],
                f"arn:aws:s3:::{submitted}/*",
            ),
        ),
        "consumer": _policy(bucket, (deleting, everything), listing_versions),
        "reconciler": _policy(
            bucket,
            (["s3:GetObject"], everything),
            (["s3:ListenBucketNotification"], f"arn:aws:s3:::{bucket}"),
            (["s3:GetObject"], all_pages),
            (["s3:GetBucketLocation", "s3:ListBucket"], f"arn:aws:s3:::{pages}"),
        ),
        "segmenter": _policy(
            pages,
            (deleting, all_pages),
            (["s3:ListBucketVersions"], f"arn:aws:s3:::{pages}"),
            (["s3:PutObject"], f"arn:aws:s3:::{pages}/{RENDERED}*"),
            (["s3:ListBucket"], f"arn:aws:s3:::{bucket}"),
            (["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], lines),
        ),
        "review": _policy(
            bucket,
            (deleting, everything),
            listing_versions,
            (["s3:GetObject"], all_pages),
            (["s3:ListBucket"], f"arn:aws:s3:::{pages}"),
        ),
    }


def _policy(bucket: str, *rights: tuple[list[str], str]) -> dict[str, Any]:
    return _statements(
        (["s3:GetBucketLocation", "s3:ListBucket"], f"arn:aws:s3:::{bucket}"), *rights
    )


def _statements(*rights: tuple[list[str], str]) -> dict[str, Any]:
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
