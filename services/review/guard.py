"""What every request passes and every answer carries."""

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from starlette.middleware.base import RequestResponseEndpoint

from services.common.problems import ProblemError

HEALTH_PATHS = frozenset({"/livez", "/readyz", "/metrics"})
UPLOAD_PATH = "/submit"
WEBHOOK_PATH = "/webhooks/label-studio"
MAX_EVENT_BYTES = 2**20
"""It says all of an annotation, its task and its project: some kilobytes."""
MAX_FORM_BYTES = 16 * 1024
"""Of all other forms: the login's is read from anybody."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY = "; ".join(
    (
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'"),
        *("connect-src 'self'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"),
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: browsers would call the origin of our own forms null
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


def install_guard(
    app: FastAPI,
    hosts: frozenset[str],
    *,
    max_upload_bytes: int,
    refuse: Callable[[Request, Exception], Awaitable[Response]],
) -> None:
    """Refuse what another site may have sent, and send the headers that keep a page to itself.

    Args:
        app: Where to.
        hosts: Names of this service: another name that leads here may be a stranger's page.
        max_upload_bytes: Largest body that ``/submit`` takes.
        refuse: Says what is wrong.
    """

    @app.middleware("http")
    async def guard(request: Request, call_next: RequestResponseEndpoint) -> Response:
        refusal = _refusal(request, hosts, max_upload_bytes)
        response = await (refuse(request, refusal) if refusal else call_next(request))
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response


def _refusal(request: Request, hosts: frozenset[str], max_upload_bytes: int) -> ProblemError | None:
    if request.url.path in HEALTH_PATHS:
        return None
    host = request.headers.get("host", "")
    if _name_in(host) not in hosts:
        return ProblemError(421, "unknown_host", "REVIEW_HOSTS does not have this host name")
    if request.method in SAFE_METHODS:
        return None
    if not _is_from_here(request, host):
        return ProblemError(403, "cross_site", "the request comes from another site")
    limits = {UPLOAD_PATH: max_upload_bytes, WEBHOOK_PATH: MAX_EVENT_BYTES}
    return _refusal_of_body(request, limits.get(request.url.path, MAX_FORM_BYTES))


def _refusal_of_body(request: Request, max_body_bytes: int) -> ProblemError | None:
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        return ProblemError(411, "length_required", "the request does not say how long it is")
    if int(length) > max_body_bytes:
        return ProblemError(413, "too_large", f"more than {max_body_bytes} bytes at once")
    return None


def _is_from_here(request: Request, host: str) -> bool:
    """Whether the browser says so; a program that is none says nothing, and has no cookie."""
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == host


def _name_in(host: str) -> str:
    """Return a host's name without its port; empty where there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # a bracket too few
        return ""
