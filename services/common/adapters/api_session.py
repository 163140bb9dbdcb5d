"""A client's session with one of our own HTTP APIs."""

from aiohttp import ClientSession, ClientTimeout
from pydantic import HttpUrl, SecretStr


def api_session(url: HttpUrl, *, token: SecretStr | None, timeout_seconds: float) -> ClientSession:
    """Return a session whose requests are relative to an API's address; the caller closes it.

    Args:
        url: Address of the API.
        token: Sent as bearer token, where there is one.
        timeout_seconds: Limit to connect, and of a silence; not of a long answer.
    """
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    timeout = ClientTimeout(total=None, connect=timeout_seconds, sock_read=timeout_seconds)
    return ClientSession(f"{str(url).rstrip('/')}/", headers=headers, timeout=timeout)
