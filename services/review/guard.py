"""What bodies the pages take, and what every answer carries."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from starlette.middleware.base import RequestResponseEndpoint

from services.common.health import PATHS as HEALTH_PATHS
from services.common.problems import ProblemError
from services.common.site_guard import SAFE_METHODS, SiteGuard

UPLOAD_PATH = "/submit"
WEBHOOK_PATH = "/webhooks/label-studio"
MAX_EVENT_BYTES = 2**20
"""It says all of an annotation, its task and its project: some kilobytes."""
MAX_FORM_BYTES = 16 * 1024
"""Of all other forms: the login's is read from anybody."""
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
        refusal = _refusal(request, max_upload_bytes)
        return await (refuse(request, refusal) if refusal else call_next(request))

    app.add_middleware(
        SiteGuard, hosts=hosts, setting="REVIEW_HOSTS", headers=HEADERS, refuse=refuse
    )


def _refusal(request: Request, max_upload_bytes: int) -> ProblemError | None:
    if request.url.path in HEALTH_PATHS or request.method in SAFE_METHODS:
        return None
    limits = {UPLOAD_PATH: max_upload_bytes, WEBHOOK_PATH: MAX_EVENT_BYTES}
    return _refusal_of_body(request, limits.get(request.url.path, MAX_FORM_BYTES))


def _refusal_of_body(request: Request, max_body_bytes: int) -> ProblemError | None:
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        return ProblemError(411, "length_required", "the request does not say how long it is")
    if int(length) > max_body_bytes:
        return ProblemError(413, "too_large", f"more than {max_body_bytes} bytes at once")
    return None
