"""Access to an API: by bearer token, and not on behalf of another web site.

Services without a token are protected from two attacks through a user's browser: cross-site
requests (CSRF), detected by ``Sec-Fetch-Site`` and ``Origin``, and DNS rebinding, detected by
``Host`` (docs/security.md).
"""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.runtime.health import PATHS as HEALTH_PATHS
from services.common.runtime.problems import ProblemError, problem_response

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OWN_SITES = frozenset({"same-origin", "none"})
"""Values of ``Sec-Fetch-Site`` of own pages and of typed addresses."""
API_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Refuse = Callable[[Request, ProblemError], Awaitable[Response]]


def require_bearer(token: SecretStr | None, *, setting: str) -> Callable[..., Awaitable[None]]:
    """Build a dependency that requires the token; with None it allows all requests.

    Args:
        token: The expected bearer token.
        setting: Name of the setting it comes from, for the API's documentation.
    """
    bearer = HTTPBearer(auto_error=False, description=f"{setting}, if set.")

    async def check(
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    ) -> None:
        if token is None:
            return
        given = credentials.credentials if credentials else ""
        if not hmac.compare_digest(given.encode("latin-1"), token.get_secret_value().encode()):
            raise ProblemError(
                401,
                "unauthorized",
                "bearer token missing or wrong",
                headers={"WWW-Authenticate": "Bearer"},
            )

    return check


def to_names(listed: str) -> frozenset[str]:
    """Return the host names of a comma-separated setting, in lower case."""
    return frozenset(name.strip().lower() for name in listed.split(",") if name.strip())


async def as_problem(_: Request, error: ProblemError) -> Response:
    """Return a refusal as problem+json."""
    return problem_response(error)


class SiteGuard:
    """ASGI middleware: refuse cross-site requests and foreign hosts, add security headers.

    Health and metrics routes are exempt: they change nothing, and are requested by IP address.

    Args:
        hosts: Allowed host names; IP addresses are always allowed, as they can't be rebound.
            None: all are allowed, as requests need a token.
        setting: Name of the setting of ``hosts``.
        headers: Defaults for all responses.
        refuse: Builds the response of a refusal; by default problem+json.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: frozenset[str] | None,
        setting: str,
        headers: Mapping[str, str] = API_HEADERS,
        refuse: Refuse = as_problem,
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._setting = setting
        self._headers = headers
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope["path"], scope["method"], Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, answer)
        else:
            response = await self._refuse(Request(scope, receive), refusal)
            await response(scope, receive, answer)

    def _refusal(self, path: str, method: str, headers: Headers) -> ProblemError | None:
        if path in HEALTH_PATHS and method in SAFE_METHODS:
            return None
        host = headers.get("host", "").lower()
        if self._hosts is not None and host and not _is_known(host, self._hosts):
            detail = f"host name not in {self._setting}"
            return ProblemError(421, "unknown_host", detail)
        is_own = _changes_from_own_site if method not in SAFE_METHODS else _reads_from_own_site
        if not is_own(headers, host):
            return ProblemError(403, "cross_site", "cross-site request refused")
        return None


def _is_known(host: str, names: frozenset[str]) -> bool:
    """Whether the host of a ``Host`` header is listed, or is an IP address."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:  # unbalanced bracket
        return False
    if name in names:
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _changes_from_own_site(headers: Headers, host: str) -> bool:
    """Whether a changing request comes from an own page or not from a browser."""
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    origin = headers.get("origin")
    return origin is None or origin.lower().partition("://")[2] == host


def _reads_from_own_site(headers: Headers, _: str) -> bool:
    """Whether a reading request comes from an own page, a link, or not from a browser."""
    site = headers.get("sec-fetch-site", "none")
    return site in OWN_SITES or headers.get("sec-fetch-mode") == "navigate"
