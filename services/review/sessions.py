"""Who is at the browser: a signed cookie, and the token that its forms carry."""

import binascii
import hmac
import json
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

from pydantic import SecretStr

from services.common.annotations import to_annotation

COOKIE = "docreco_review"


@dataclass(frozen=True)
class Session:
    """A login."""

    id: str
    name: str
    """What ``annotation.by`` says."""
    expires: float
    """Unix time."""


class Sessions:
    """Makes and reads cookies.

    Args:
        password: Cookies end when it changes; without one they end with this process.
        seconds: How long a login lasts.
    """

    def __init__(self, password: SecretStr | None, *, seconds: float) -> None:
        self.seconds = seconds
        self._password = password
        seed = password.get_secret_value() if password else secrets.token_hex(32)
        self._key = hmac.digest(seed.encode(), b"docreco review session", "sha256")

    @property
    def wants_password(self) -> bool:
        """Whether a login needs one."""
        return self._password is not None

    def accepts(self, password: str) -> bool:
        """Whether this is the password; everything is, where there is none."""
        if self._password is None:
            return True
        return hmac.compare_digest(password.encode(), self._password.get_secret_value().encode())

    def start(self, name: str) -> Session:
        """Begin a login.

        Raises:
            UnacceptableAnnotationError: The name can't sign an annotation.
        """
        by = to_annotation("", "unreadable", by=name[:100]).by
        return Session(secrets.token_urlsafe(18), by, time.time() + self.seconds)

    def cookie(self, session: Session) -> str:
        """Return the cookie's value."""
        fields = json.dumps([session.id, session.name, session.expires]).encode()
        body = urlsafe_b64encode(fields).decode()
        return f"{body}.{self._sign(body)}"

    def read(self, cookie: str | None) -> Session | None:
        """Return the session of a cookie, or None where it is not ours or is over."""
        body, _, signature = (cookie or "").rpartition(".")
        if not body or not hmac.compare_digest(self._sign(body).encode(), signature.encode()):
            return None
        try:
            session = Session(*json.loads(urlsafe_b64decode(body)))
        except (binascii.Error, ValueError, TypeError):
            return None
        return session if session.expires > time.time() else None

    def token(self, session: Session) -> str:
        """Return what the forms of a session carry, which no other site can know."""
        return self._sign(f"form {session.id}")

    def is_token(self, session: Session, given: str) -> bool:
        """Whether ``given`` is the token of a session."""
        return hmac.compare_digest(self.token(session).encode(), given.encode())

    def _sign(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(), "sha256").hex()
