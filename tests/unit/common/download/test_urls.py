import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.download.urls import (
    MAX_URL_LENGTH,
    UnacceptableUrlError,
    host_of,
    spellings,
    to_url,
)


@pytest.mark.parametrize(
    ("given_url", "expected"),
    [
        (" https://x.test/a.png ", "https://x.test/a.png"),
        ("HTTP://X.Test", "http://x.test"),
        ("http://exämple.test/é b?q=ü", "http://xn--exmple-cua.test/%C3%A9%20b?q=%C3%BC"),
        ("http://x.test/a%2Fb#part", "http://x.test/a%2Fb"),
        ("http://x.test:8080/a", "http://x.test:8080/a"),
        ("http://[2001:db8::1]:81/a", "http://[2001:db8::1]:81/a"),
        ("http://x.test./a", "http://x.test./a"),
    ],
)
def test_url_is_normalised_to_ascii(given_url: str, expected: str) -> None:
    assert str(to_url(given_url)) == expected


@pytest.mark.parametrize(
    "given_url",
    [
        "https://x.test/sig=/300x/http%3A%2F%2Fo.test%2Fa.jpg",
        "https://x.test/foo%27bar%28.png?AWSAccessKeyId=X&Signature=a%2Bb%3D",
        "https://x.test/a'(b)!*;c=d,e:f@g$h&i+j",
        "https://x.test/%7euser/%c3%a9?q=%2c%3b&r=/?:@",
        "https://x.test//a//b/",
    ],
)
def test_valid_url_is_requested_as_it_was_written(given_url: str) -> None:
    assert str(to_url(given_url)) == given_url


@pytest.mark.parametrize(
    ("given_url", "expected"),
    [
        ("http://x.test/100%", "http://x.test/100%25"),
        ("http://x.test/%zz?%", "http://x.test/%25zz?%25"),
        ('http://x.test/a"<b>?[c]|{d}', "http://x.test/a%22%3Cb%3E?%5Bc%5D%7C%7Bd%7D"),
        ("http://x.test/a/../b/./c?d=../e", "http://x.test/b/c?d=../e"),
    ],
)
def test_only_what_is_not_valid_is_encoded(given_url: str, expected: str) -> None:
    assert str(to_url(given_url)) == expected


def test_url_is_found_by_the_forms_in_which_it_may_be_kept() -> None:
    assert spellings("http://X.test:80/%7Ea%28/é") == {
        "http://X.test:80/%7Ea%28/é",
        "http://x.test/%7Ea%28/%C3%A9",
        "http://x.test/~a(/%C3%A9",
    }
    assert spellings("no url") == {"no url"}


@pytest.mark.parametrize(
    ("given_url", "code"),
    [
        ("", "invalid_url"),
        ("   ", "invalid_url"),
        ("x.test/a.png", "invalid_url"),
        ("//x.test/a", "invalid_url"),
        ("http://", "invalid_url"),
        ("http:///a", "invalid_url"),
        ("http://a b/", "invalid_url"),
        ("http://x..test/", "invalid_url"),
        (f"http://{'a' * 64}.test/", "invalid_url"),
        ("http://x.test:99999/", "invalid_url"),
        ("http://x.test:0/", "invalid_url"),
        ("http://[::1", "invalid_url"),
        ("http://[fe80::1%eth0]/", "invalid_url"),
        ("http://[::1::2]/", "invalid_url"),
        ("http://2130706433/", "invalid_url"),
        ("http://0x7f000001/", "invalid_url"),
        ("http://0177.0.0.1/", "invalid_url"),
        ("http://127.1/", "invalid_url"),
        ("http://x.test/a\tb", "invalid_url"),
        ("http://x\0.test/", "invalid_url"),
        ("http://x.test/\ud800", "invalid_url"),
        ("file:///etc/passwd", "unsupported_scheme"),
        ("data:image/png;base64,AA", "unsupported_scheme"),
        ("ftp://x.test/a", "unsupported_scheme"),
        ("http://user:secret@x.test/", "credentials_in_url"),
        ("http://user@x.test/", "credentials_in_url"),
        ("http://:@x.test/", "credentials_in_url"),
        ("http://x.test/" + "a" * MAX_URL_LENGTH, "url_too_long"),
        ("http://x.test/" + "é" * (MAX_URL_LENGTH // 2), "url_too_long"),
    ],
)
def test_url_that_is_not_fetched_has_a_code(given_url: str, code: str) -> None:
    with pytest.raises(UnacceptableUrlError) as caught:
        to_url(given_url)

    assert caught.value.code == code
    assert "secret" not in caught.value.detail


@given(st.one_of(st.text(), st.text().map("http://".__add__), st.text().map("http://x/".__add__)))
def test_accepted_url_is_ascii_and_stays_as_it_is(given_url: str) -> None:
    try:
        url = to_url(given_url)
    except UnacceptableUrlError:
        return
    assert str(url).isascii()
    assert str(to_url(str(url))) == str(url)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://example.org./a", "example.org"),
        ("http://example.org.:8080/a.:b", "example.org:8080"),
        ("http://EXAMPLE.org:80", "example.org"),
        ("https://[::1]:8080/a.", "[::1]:8080"),
        ("https://example.org?a./", "example.org"),
    ],
)
def test_host_is_one_however_it_is_written(url: str, host: str) -> None:
    assert host_of(str(to_url(url))) == host
