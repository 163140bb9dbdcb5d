"""Our signature of a request is the client's own."""

from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import HttpUrl, SecretStr

from services.common.adapters.direct_put import Signature
from services.common.runtime.settings import S3Settings

HOST = "store.test:9002"
PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)


@settings(max_examples=40)
@given(
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
    metadata=st.dictionaries(NAMES, PRINTABLE, max_size=4),
    content=st.binary(max_size=50),
    password=st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=20),
)
def test_signature_is_the_clients_own(
    key: str, metadata: dict[str, str], content: bytes, password: str
) -> None:
    who = S3Settings(
        endpoint_url=HttpUrl(f"http://{HOST}"),
        access_key_id="somebody",
        secret_access_key=SecretStr(password),
        region="eu-west-3",
    )
    path = f"/raw/{quote(key, safe='/-._~')}"
    headers = {f"x-amz-meta-{name}": value for name, value in metadata.items()}
    headers["content-type"] = "image/png"
    theirs = AWSRequest("PUT", f"http://{HOST}{path}", headers=headers, data=content)
    S3SigV4Auth(Credentials("somebody", password), "s3", "eu-west-3").add_auth(theirs)

    ours = Signature(who).sign(
        "PUT",
        path,
        {**headers, "host": HOST},
        digest=sha256(content).hexdigest(),
        now=datetime.strptime(theirs.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
    )

    assert ours["authorization"] == theirs.headers["Authorization"]


def test_key_of_a_signature_changes_with_the_day() -> None:
    signature = Signature(S3Settings())
    days = [datetime(2026, 11, day, tzinfo=UTC) for day in (24, 25, 24)]

    signed = [signature.sign("PUT", "/raw/a", {}, digest="0" * 64, now=day) for day in days]

    fresh = Signature(S3Settings()).sign("PUT", "/raw/a", {}, digest="0" * 64, now=days[1])
    assert signed[1] == fresh
    assert signed[0] == signed[2] != signed[1]
