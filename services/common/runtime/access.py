"""Who may use an API: whoever knows its token."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from services.common.runtime.problems import ProblemError


def require_bearer(token: SecretStr | None, *, setting: str) -> Callable[..., Awaitable[None]]:
    """Build a dependency that refuses requests without the token; without one, all pass.

    Args:
        token: What requests must carry.
        setting: Name of the setting it comes from, for the API's documentation.
    """
    bearer = HTTPBearer(auto_error=False, description=f"{setting}, where it is set.")

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
                "this service wants a bearer token",
                headers={"WWW-Authenticate": "Bearer"},
            )

    return check
