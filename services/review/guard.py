"""What bodies the pages take, and what every answer carries."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response

from services.common.runtime.bodies import BodyGuard
from services.common.runtime.site_guard import SiteGuard

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
    limits = {UPLOAD_PATH: max_upload_bytes, WEBHOOK_PATH: MAX_EVENT_BYTES}
    app.add_middleware(
        BodyGuard, limit_of=lambda path: limits.get(path, MAX_FORM_BYTES), refuse=refuse
    )
    app.add_middleware(
        SiteGuard, hosts=hosts, setting="REVIEW_HOSTS", headers=HEADERS, refuse=refuse
    )
