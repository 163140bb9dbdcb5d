"""Example receiver of Alertmanager's webhooks: prints a line of JSON per alert.

``python -m services.alert_receiver.main --port 9095``. Replace it by e-mail, chat or a pager; the
body is Alertmanager's webhook format, version 4.
"""

import argparse
from collections.abc import Sequence
from typing import Literal

import structlog
import uvicorn
from fastapi import FastAPI, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.common.runtime.health import health_router
from services.common.runtime.logs import configure_logging
from services.common.runtime.settings import LogSettings

log = structlog.stdlib.get_logger(__name__)


class ReceivedAlert(BaseModel):
    """One alert of a notification; what Alertmanager adds later is ignored."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = Field(default_factory=dict)
    starts_at: AwareDatetime = Field(alias="startsAt")

    @property
    def name(self) -> str:
        """The alert's name, as in the rule files."""
        return self.labels.get("alertname", "")


class Notification(BaseModel):
    """Webhook body of Alertmanager."""

    model_config = ConfigDict(frozen=True)

    receiver: str
    alerts: tuple[ReceivedAlert, ...]


def create_app() -> FastAPI:
    """Build the receiver, which accepts and logs any path."""
    app = FastAPI(title="DocReco alert receiver", openapi_url=None)
    app.include_router(health_router(ready={}))

    @app.post("/{route:path}", status_code=204)
    async def receive(route: str, notification: Notification) -> Response:
        for alert in notification.alerts:
            log.warning(
                "alert",
                route=route,
                status=alert.status,
                alert=alert.name,
                severity=alert.labels.get("severity"),
                summary=alert.annotations.get("summary"),
                runbook=alert.annotations.get("runbook_url"),
                starts_at=alert.starts_at.isoformat(),
            )
        return Response(status_code=204)

    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(
        prog="python -m services.alert_receiver.main", description=__doc__
    )
    parser.add_argument("--host", default="127.0.0.1", help="listen address")
    parser.add_argument("--port", type=int, default=9095, help="listen port")
    parsed = parser.parse_args(arguments)
    configure_logging(LogSettings(), service="alert-webhook")
    uvicorn.run(create_app(), host=parsed.host, port=parsed.port, log_config=None, access_log=False)


if __name__ == "__main__":
    main()
