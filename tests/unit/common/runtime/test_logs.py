"""Log lines hold nothing but their author's text."""

import json
from typing import Literal

import pytest
import structlog

from services.common.runtime.logs import configure_logging
from services.common.runtime.settings import LogSettings

AMQP_URL = "amqp://admin:hunter2@rabbit/"
BEARER = "Bearer TOPSECRET"
URL = "https://host.test/a.png?token=s3cret"
SECRETS = ("hunter2", "TOPSECRET", "s3cret", "x7pass")
FORMATS: list[Literal["json", "console"]] = ["json", "console"]


def fail(url: str, authorization: str) -> None:
    amqp_url = AMQP_URL
    raise ValueError(f"a bug of {len(amqp_url + authorization)} characters at {url}")


@pytest.mark.parametrize("form", FORMATS)
def test_traceback_holds_no_values_of_variables(
    form: Literal["json", "console"], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(LogSettings(format=form), service="test")
    log = structlog.stdlib.get_logger("test")

    try:
        fail(URL, BEARER)
    except ValueError:
        log.exception("failed", link="http://ada:x7pass@host.test/b?sig=s3cret")

    written = capsys.readouterr().err
    assert "test_logs.py" in written
    assert "https://host.test/a.png?" in written
    assert "host.test/b?" in written
    for secret in SECRETS:
        assert secret not in written


def test_json_line_keeps_values_of_other_types(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(), service="test")

    structlog.stdlib.get_logger("test").info("done", count=3, names=["a", "http://h/?k=s3cret"])

    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["count"], line["names"]) == ("done", 3, ["a", "http://h/?…"])
