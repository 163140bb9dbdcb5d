"""Limits of request bodies, and security headers of responses."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response

from services.common.runtime.access import SiteGuard
from services.common.runtime.server import BodyGuard

UPLOAD_PATH = "/submit"
WEBHOOK_PATH = "/webhooks/label-studio"
MAX_EVENT_BYTES = 2**20
"""Largest webhook: annotation, task and project take some kilobytes."""
MAX_FORM_BYTES = 256 * 1024
"""Largest body of all other forms: a text of 10,000 characters takes up to 90 kB, and an answer
names the readings of all model versions. That of the login is unauthenticated."""
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
    # Not no-referrer: browsers would send a null origin with our own forms
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
    """Add body limits, protection against cross-site requests, and security headers.

    Args:
        app: The application.
        hosts: Allowed host names (DNS-rebinding protection).
        max_upload_bytes: Largest body of ``/submit``.
        refuse: Builds the response of a refusal.
    """
    limits = {UPLOAD_PATH: max_upload_bytes, WEBHOOK_PATH: MAX_EVENT_BYTES}
    app.add_middleware(
        BodyGuard, limit_of=lambda path: limits.get(path, MAX_FORM_BYTES), refuse=refuse
    )
    app.add_middleware(
        SiteGuard, hosts=hosts, setting="REVIEW_HOSTS", headers=HEADERS, refuse=refuse
    )
