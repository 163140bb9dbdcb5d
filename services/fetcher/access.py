"""Who may use the API."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from services.common.problems import ProblemError

_BEARER = HTTPBearer(auto_error=False, description="FETCHER_API_TOKEN, where it is set.")


def require_token(token: SecretStr | None) -> Callable[..., Awaitable[None]]:
    """Build a dependency that refuses requests without the token; without one, all pass."""

    async def check(
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    ) -> None:
        if token is None:
            return
        given = credentials.credentials if credentials else ""
        if not hmac.compare_digest(given.encode("latin-1"), token.get_secret_value().encode()):
            raise ProblemError(
                401,
                "unauthorized",
                "this service wants a bearer token",
                headers={"WWW-Authenticate": "Bearer"},
            )

    return check
