"""A refused upload: the client reads the answer, though it still sends."""

import asyncio
from http.client import HTTPConnection

import pytest

from tests.support.running_ocr_api import Api, FakeEngine, running_api
from tests.support.waiting import DEADLINE_SECONDS, deadline
from tests.support.web import FORM_TYPE, TWO_LENGTHS, chunked, exchange

LARGE = bytes(30_000_000)
"""More than the sockets between the two hold."""
FORM = {"Content-Type": "multipart/form-data; boundary=b", "Connection": "close"}


class Old(HTTPConnection):
    """Speaks HTTP/1.0."""

    _http_vsn_str = "HTTP/1.0"


def _send(api: Api, kind: type[HTTPConnection], closing: str) -> tuple[int, bytes]:
    """Send all of the body before looking at the answer, as many clients do."""
    base = api.session._base_url
    assert base is not None
    connection = kind(str(base.host), base.port or 0, timeout=DEADLINE_SECONDS)
    try:
        headers = FORM | {"Connection": closing}
        connection.request("POST", "/predict", body=LARGE, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("kind", "closing"), [(HTTPConnection, "close"), (HTTPConnection, "TE, Close"), (Old, "x")]
)
async def test_client_that_sends_first_learns_why_it_was_refused(
    kind: type[HTTPConnection], closing: str
) -> None:
    async with running_api(FakeEngine) as api:
        status, body = await asyncio.to_thread(_send, api, kind, closing)

    assert status == 413
    assert b"image_too_large" in body


async def test_refused_client_that_stops_sending_is_disconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.uploads.SECONDS", 0.1)
    async with running_api(FakeEngine) as api:
        base = api.session._base_url
        assert base is not None
        reader, writer = await asyncio.open_connection(base.host, base.port)
        lines = ["POST /predict HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(LARGE)}"]
        lines += [f"{name}: {value}" for name, value in FORM.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        async with deadline():
            answer = await reader.read()  # to the end of the connection
        writer.close()
        await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.count(b"HTTP/1.1") == 1


async def test_body_of_two_lengths_is_refused() -> None:
    async with running_api(FakeEngine) as api:
        assert api.session._base_url is not None
        url = api.session._base_url.with_path("/predict")
        answer = await exchange(url, [FORM_TYPE, *TWO_LENGTHS], chunked(b"a"))

    assert answer.startswith(b"HTTP/1.1 400 ")
