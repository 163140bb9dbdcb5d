"""Client session for the project's own HTTP APIs."""

from aiohttp import ClientSession, ClientTimeout
from pydantic import HttpUrl, SecretStr


def api_session(url: HttpUrl, *, token: SecretStr | None, timeout_seconds: float) -> ClientSession:
    """Return a session with an API's base URL; the caller closes it.

    Args:
        url: Address of the API.
        token: Bearer token, if any.
        timeout_seconds: Connect and read timeout; there is no total timeout.
    """
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    timeout = ClientTimeout(total=None, connect=timeout_seconds, sock_read=timeout_seconds)
    return ClientSession(f"{str(url).rstrip('/')}/", headers=headers, timeout=timeout)
