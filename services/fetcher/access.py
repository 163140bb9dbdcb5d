"""Authentication of the fetcher's API."""

from collections.abc import Awaitable, Callable

from pydantic import SecretStr

from services.common.runtime.access import require_bearer


def require_token(token: SecretStr | None) -> Callable[..., Awaitable[None]]:
    """Build a dependency that requires the token; with None it allows all requests."""
    return require_bearer(token, setting="FETCHER_API_TOKEN")
