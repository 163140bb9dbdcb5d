"""Cookies of the review page can't be forged or changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from services.common.domain.annotations import UnacceptableAnnotationError
from services.review.sessions import Sessions

PASSWORD = SecretStr("a long password")
SESSIONS = Sessions(PASSWORD, seconds=60)


def test_cookie_is_read_back_with_the_same_password() -> None:
    sessions = Sessions(PASSWORD, seconds=60)
    session = sessions.start("  Zoë  ")
    assert session.name == "Zoë"
    assert Sessions(PASSWORD, seconds=60).read(sessions.cookie(session)) == session


def test_another_password_ends_all_sessions() -> None:
    sessions = Sessions(PASSWORD, seconds=60)
    cookie = sessions.cookie(sessions.start("ada"))
    assert Sessions(SecretStr("another password"), seconds=60).read(cookie) is None
    assert Sessions(None, seconds=60).read(cookie) is None


def test_session_ends() -> None:
    sessions = Sessions(PASSWORD, seconds=-1)
    assert sessions.read(sessions.cookie(sessions.start("ada"))) is None


@given(cookie=st.text(max_size=80))
def test_no_other_text_is_a_cookie(cookie: str) -> None:
    assert SESSIONS.read(cookie) is None


@pytest.mark.parametrize("name", ["", "  ", "batch:b1", "a\x00b"])
def test_name_that_can_not_sign_is_refused(name: str) -> None:
    with pytest.raises(UnacceptableAnnotationError):
        Sessions(None, seconds=60).start(name)


def test_token_is_of_one_session() -> None:
    sessions = Sessions(None, seconds=60)
    one, two = sessions.start("ada"), sessions.start("ada")
    assert sessions.is_token(one, sessions.token(one))
    assert not sessions.is_token(one, sessions.token(two))
    assert not sessions.is_token(one, "é")
