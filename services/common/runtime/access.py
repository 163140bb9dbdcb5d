"""Bearer-token authentication of an API."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from services.common.runtime.problems import ProblemError


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
