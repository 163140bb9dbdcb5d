"""Login sessions: signed cookies and CSRF tokens."""

import binascii
import hashlib
import hmac
import json
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from aiolimiter import AsyncLimiter
from pydantic import SecretStr

from services.common.domain.annotations import to_annotation

COOKIE = "docreco_review"

_MOST_ADDRESSES = 10_000


@dataclass(frozen=True)
class Session:
    """A login."""

    id: str
    name: str
    """Stored in ``annotation.by``."""
    expires: float
    """Unix time."""


class Sessions:
    """Signs and verifies cookies.

    Args:
        password: Cookies expire when it changes; without one, with this process.
        seconds: Validity of a login.
    """

    def __init__(self, password: SecretStr | None, *, seconds: float) -> None:
        self.seconds = seconds
        self._password = password
        seed = password.get_secret_value() if password else secrets.token_hex(32)
        # Slow (32 MiB, some 0.1 s), as a cookie allows offline guesses of passwords (RFC 7914)
        self._key = hashlib.scrypt(
            seed.encode(), salt=b"docreco review session", n=2**15, r=8, p=1, maxmem=64 * 2**20
        )[:32]

    @property
    def wants_password(self) -> bool:
        """Whether a login needs a password."""
        return self._password is not None

    def accepts(self, password: str) -> bool:
        """Whether this is the password; always true if none is set."""
        if self._password is None:
            return True
        return hmac.compare_digest(password.encode(), self._password.get_secret_value().encode())

    def start(self, name: str) -> Session:
        """Begin a login.

        Raises:
            UnacceptableAnnotationError: The name is invalid for annotations.
        """
        by = to_annotation("", "unreadable", by=name[:100]).by
        return Session(secrets.token_urlsafe(18), by, time.time() + self.seconds)

    def cookie(self, session: Session) -> str:
        """Return the cookie's value."""
        fields = json.dumps([session.id, session.name, session.expires]).encode()
        body = urlsafe_b64encode(fields).decode()
        return f"{body}.{self._sign(body)}"

    def read(self, cookie: str | None) -> Session | None:
        """Return the session of a cookie, or None if it is invalid or expired."""
        body, _, signature = (cookie or "").rpartition(".")
        if not body or not hmac.compare_digest(self._sign(body).encode(), signature.encode()):
            return None
        try:
            session = Session(*json.loads(urlsafe_b64decode(body)))
        except (binascii.Error, ValueError, TypeError):
            return None
        return session if session.expires > time.time() else None

    def token(self, session: Session) -> str:
        """Return the CSRF token of a session."""
        return self._sign(f"form {session.id}")

    def is_token(self, session: Session, given: str) -> bool:
        """Whether ``given`` is the CSRF token of a session."""
        return hmac.compare_digest(self.token(session).encode(), given.encode())

    def _sign(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(), "sha256").hex()


class PasswordGuesses:
    """Rate limit of wrong passwords per minute, for one address and for all.

    An attacker locks out those with the same address, and everybody only from many addresses.
    """

    def __init__(self, *, of_address: int, of_all: int) -> None:
        self._of_address = of_address
        self._all = AsyncLimiter(of_all)
        self._addresses: OrderedDict[str, AsyncLimiter] = OrderedDict()

    def may_try(self, address: str) -> bool:
        """Whether a password from an address is checked; if not, it is refused."""
        return self._all.has_capacity() and self._limiter(address).has_capacity()

    async def count(self, address: str) -> None:
        """Record a wrong password."""
        await self._all.acquire()
        await self._limiter(address).acquire()

    def _limiter(self, address: str) -> AsyncLimiter:
        network = _network(address)
        limiter = self._addresses.pop(network, None) or AsyncLimiter(self._of_address)
        self._addresses[network] = limiter
        if len(self._addresses) > _MOST_ADDRESSES:
            self._addresses.popitem(last=False)
        return limiter


def _network(address: str) -> str:
    """Return the unit of counting: an IPv4 address, or the IPv6 network of a customer."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    return address if ip.version == 4 else str(ip_network(f"{ip}/64", strict=False))
