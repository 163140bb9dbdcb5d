import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.common.domain.redaction import Redactor, beginning, hide_secrets, may_be_kept_as
from services.common.download.errors import LONGEST_DETAIL, to_detail
from services.common.download.settings import DownloadSettings

REDACTOR = Redactor(["token", "X-Amz-Signature", "key"])


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://x.test/a.png", "https://x.test/a.png"),
        ("https://x.test/a?b=1&c", "https://x.test/a?b=1&c"),
        ("https://x.test/a?token=s3cret&b=1", "https://x.test/a?token=REDACTED&b=1"),
        ("https://x.test/a?b=1;TOKEN=s3cret", "https://x.test/a?b=1;TOKEN=REDACTED"),
        ("https://x.test/a?x-amz-signature=s3cret", "https://x.test/a?x-amz-signature=REDACTED"),
        ("https://x.test/a?t%6Fken=s3cret", "https://x.test/a?t%6Fken=REDACTED"),
        ("https://x.test/a?t%256Fken=s3cret", "https://x.test/a?t%256Fken=REDACTED"),
        ("https://x.test/a?+token=s3cret", "https://x.test/a?+token=REDACTED"),
        ("https://x.test/a?token=s3cret=&token=s3cret", "https://x.test/a?token=REDACTED&token=REDACTED"),
        ("https://x.test/a?token=s3cret?s3cret", "https://x.test/a?token=REDACTED"),
        ("https://x.test/a?tokens=1&monkey=2", "https://x.test/a?tokens=1&monkey=2"),
        ("https://x.test/a?token", "https://x.test/a?token"),
        ("https://x.test/token=1/a", "https://x.test/token=1/a"),
        ("https://x.test/a?u=http://y.test/?token=s3cret", "https://x.test/a?u=REDACTED"),
        ("https://x.test/a?u=http%3A%2F%2Fy.test%2F%3Fkey%3Ds3cret", "https://x.test/a?u=REDACTED"),
        ("https://x.test/a?u=http%253A%252F%252Fy%253Fkey%253Ds3cret", "https://x.test/a?u=REDACTED"),
        ("https://x.test/a?u=http%3A%2F%2Fy.test%2F%3Fb%3D1", "https://x.test/a?u=http%3A%2F%2Fy.test%2F%3Fb%3D1"),
        ("https://x.test/a.zip?token=s3cret#b.png", "https://x.test/a.zip?token=REDACTED#b.png"),
        ("https://x.test/a#token=s3cret", "https://x.test/a#token=REDACTED"),
        ("https://user:s3cret@x.test/a@b", "https://x.test/a@b"),
        ("https://user:s3@cret;s3@x.test/a@b", "https://x.test/a@b"),
        ("https://x.test/web/http://user:s3cret@y.test/a@b", "https://x.test/web/http://y.test/a@b"),
        ("https://user:s3cret@x.test/web/http://user:s3cret@y.test/a", "https://x.test/web/http://y.test/a"),
        ("https://x.test/a?u=http://user:s3cret@y.test/", "https://x.test/a?u=REDACTED"),
    ],
)  # fmt: skip
def test_secrets_of_a_url_are_replaced_and_nothing_else(url: str, expected: str) -> None:
    assert REDACTOR.redact(url) == expected


def test_nothing_is_replaced_where_no_parameter_is_named() -> None:
    assert Redactor([]).redact("https://x.test/a?token=1&=2") == "https://x.test/a?token=1&=2"


@pytest.mark.parametrize(
    "query",
    [
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=s3cret%2F20260101&X-Amz-Signature=s3cret",
        "X-Goog-Credential=s3cret&X-Goog-Signature=s3cret",
        "Expires=1&Signature=s3cret&Key-Pair-Id=s3cret&Policy=s3cret",
        "sv=2024-01-01&sig=s3cret",
        "api_key=s3cret&access_token=s3cret&password=s3cret",
    ],
    ids=["s3", "google", "cloudfront", "azure", "plain"],
)
def test_signed_urls_of_large_clouds_are_redacted_by_default(query: str) -> None:
    redacted = Redactor(DownloadSettings().redact_query).redact(f"https://x.test/a?{query}")

    assert "s3cret" not in redacted


def test_names_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETCHER_REDACT_QUERY", "pass, Wort")

    redactor = Redactor(DownloadSettings().redact_query)

    assert redactor.redact("http://x.test/?pass=1&wort=2&token=3") == (
        "http://x.test/?pass=REDACTED&wort=REDACTED&token=3"
    )


@given(st.text(st.sampled_from("ab=&;?#%2F/token@: +"), max_size=60))
@example("/a@/b@")
@example("/@@")
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = REDACTOR.redact(f"http://x.test/{text}")

    assert REDACTOR.redact(once) == once


@given(
    before=st.text(st.sampled_from("ab=&;?%/ "), max_size=20),
    after=st.text(st.sampled_from("ab=&?/ "), max_size=20),
)
def test_value_of_a_named_parameter_never_stays(before: str, after: str) -> None:
    url = f"http://x.test/a?{before}&token=s3cret&{after}"

    assert "s3cret" not in REDACTOR.redact(url)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("not valid: http://x.test/a?token=s3cret, sorry", "not valid: http://x.test/a?… sorry"),
        ("url='http://x.test/a?token=s3cret'", "url='http://x.test/a?…'"),
        ("http://user:s3cret@x.test/ is it", "http://…@x.test/ is it"),
        ("why? because", "why? because"),
    ],
)
def test_detail_of_an_error_holds_no_query_and_no_user(text: str, expected: str) -> None:
    assert to_detail(text) == expected


@given(st.text())
def test_detail_is_one_printable_line(text: str) -> None:
    detail = to_detail(text)

    assert detail.isprintable()
    assert len(detail) <= LONGEST_DETAIL + 1


@pytest.mark.parametrize(
    "parameter",
    [
        *("access_token[]", "token[0]", "token%5B%5D", "id_token", "refreshToken", "auth_token"),
        *(
            "accesstoken",
            "X-Auth-User",
            "X-Goog-Security-Token",
            "client_secret",
            "oauth_signature",
        ),
        *("x-api-key", "apiKey", "myapikey", "subscription-key", "Ocp-Apim-Subscription-Key"),
        *("access_key", "AWSAccessKeyId", "OSSAccessKeyId", "GoogleAccessId", "Key-Pair-Id"),
        *("x-oss-signature", "x-oss-credential", "PHPSESSID", "sessid", "jsessionid", "wskey"),
        *("hdnts", "__gda__", "__token__", "sas", "bearer", "user[password]"),
    ],
)
def test_names_of_secrets_are_known_in_every_spelling(parameter: str) -> None:
    redact = Redactor(DownloadSettings().redact_query).redact

    for url in (f"https://h/x?a=1&{parameter}=s3cret&b=2", f"https://h/x;{parameter}=s3cret/y"):
        kept = redact(url)
        assert kept == url.replace("s3cret", "REDACTED")


@pytest.mark.parametrize(
    "query",
    [
        "x=exp=1~acl=/*~hmac=s3cret",
        "u=https://ada:s3cret@o.test/",
        "state={access_token=s3cret}",
        "a=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.s3cret",
    ],
)
def test_values_that_are_secrets_are_known_whatever_their_name(query: str) -> None:
    assert "s3cret" not in Redactor(DownloadSettings().redact_query).redact(f"https://h/x?{query}")


@pytest.mark.parametrize(
    "query",
    [
        "id=12&key=scans%2F1.png&code=fr&page=3&size=2",
        "author=ada&monkey=1&tokens=3&design=2&assignment=1&keyword=mot&authuser=0",
        "f=jpg&w=300&sign=no&passage=12&signal=1",
    ],
)
def test_what_names_an_image_stays(query: str) -> None:
    url = f"https://h/x;v=1/y?{query}#page=2"

    assert Redactor(DownloadSettings().redact_query).redact(url) == url


@pytest.mark.parametrize(
    ("url", "kept", "is_it"),
    [
        ("https://h/a?sig=1&b=2", "https://h/a?sig=REDACTED&b=2", True),
        ("https://u:p@h/a;s=1?b=2", "https://h/a;s=REDACTED?b=2", True),
        ("https://h/a?b=2", "https://h/a?b=2", True),
        ("https://h/a?sig=1&b=3", "https://h/a?sig=REDACTED&b=2", False),
        ("https://h/a?sig=1&c=1&b=2", "https://h/a?sig=REDACTED&b=2", False),
        ("https://h/ab", "https://h/a.", False),
    ],
)
def test_url_is_matched_with_what_was_kept_of_it(url: str, kept: str, *, is_it: bool) -> None:
    assert may_be_kept_as(url, kept) == is_it
    assert not is_it or kept.startswith(beginning(url))


@given(st.text(st.sampled_from("ab=&;?#%2F/token@: +"), max_size=40))
def test_every_url_may_be_kept_as_its_redacted_form(text: str) -> None:
    url = f"http://x.test/{text}"

    assert may_be_kept_as(url, REDACTOR.redact(url))


@pytest.mark.parametrize(
    "text",
    [
        "at http://h/a?x=s3cret now",
        "at 'http://h/a;jsessionid=s3cret/b#access_token=s3cret'",
        "amqp://admin:s3cret@rabbit:5672/",
        "at http://admin:pass@s3cret@h/ now",
    ],
)
def test_text_for_people_has_no_secret_of_a_url(text: str) -> None:
    hidden = hide_secrets(text)

    assert "s3cret" not in hidden
    assert hidden.startswith(text[:7])
