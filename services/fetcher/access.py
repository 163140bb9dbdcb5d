"""Who may use the fetcher's API."""

from collections.abc import Awaitable, Callable

from pydantic import SecretStr

from services.common.runtime.access import require_bearer


def require_token(token: SecretStr | None) -> Callable[..., Awaitable[None]]:
    """Build a dependency that refuses requests without the token; without one, all pass."""
    return require_bearer(token, setting="FETCHER_API_TOKEN")
