"""Structured logs: one JSON object a line for machines, coloured lines for people."""

import logging
import sys
from io import StringIO
from typing import Any, TextIO

import structlog

from services.common.domain.redaction import hide_secrets
from services.common.runtime.settings import LogSettings


def configure_logging(settings: LogSettings, *, service: str) -> None:
    """Send all logs, also those of libraries, through structlog to standard error.

    Args:
        settings: Least level and format.
        service: Name that every line carries.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[structlog.typing.Processor] = (
        [
            structlog.processors.format_exc_info,
            _hide_secrets,
            structlog.processors.JSONRenderer(),
        ]
        if settings.format == "json"
        else [_hide_secrets, structlog.dev.ConsoleRenderer(exception_formatter=_write_traceback)]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,  # skip formatting of records below the level
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.level.upper())
    for chatty in ("botocore", "aiobotocore", "aiormq", "aio_pika", "pymongo", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(service=service)


def _hide_secrets(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Redact queries and user info of URLs in a log line."""
    return {name: _hidden(value) for name, value in event.items()}


def _hidden(value: Any) -> Any:
    if isinstance(value, str):
        return hide_secrets(value)
    if isinstance(value, list | tuple):
        return [_hidden(each) for each in value]
    if isinstance(value, dict):
        return {name: _hidden(each) for name, each in value.items()}
    return value


def _write_traceback(stream: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    """Write a traceback without the values of variables, which rich would show by default."""
    plain = StringIO()
    structlog.dev.plain_traceback(plain, exc_info)
    stream.write(hide_secrets(plain.getvalue()))
