"""An OCR API whose answers the test decides: the wire format of the real one, over real HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256

from aiohttp import ClientSession, FormData, web
from aiohttp.test_utils import TestServer
from pydantic import HttpUrl

Answer = Callable[[bytes], Awaitable[web.Response]]


def prediction(text: str = "industrie", score: float = 0.9, **changes: object) -> dict[str, object]:
    return {
        "text": text,
        "score": score,
        "engine": "fake",
        "model_version": "fake-1",
        "width": 320,
        "height": 48,
        "duration_ms": 1.5,
        **changes,
    }


def problem(status: int, code: str, detail: str = "no") -> web.Response:
    body = {"type": "about:blank", "status": status, "code": code, "detail": detail}
    return web.json_response(body, status=status, content_type="application/problem+json")


async def predict(
    session: ClientSession,
    content: bytes,
    headers: Mapping[str, str] | None = None,
    /,
    **fields: str,
) -> int:
    """Send an image to any OCR API; return the status of the answer."""
    form = FormData(fields)
    form.add_field("file", content, filename="a.png")
    async with session.post("/predict", data=form, headers=headers) as response:
        return response.status


class ScriptedOcrApi:
    """Answers ``/predict`` as told; remembers the images it was asked about, by sha256."""

    def __init__(self) -> None:
        self.url: HttpUrl
        self.is_ready = True
        self.seen: list[str] = []
        self.answer: Answer = self.read_all

    @staticmethod
    async def read_all(_: bytes) -> web.Response:
        return web.json_response(prediction())

    async def _predict(self, request: web.Request) -> web.Response:
        form = await request.post()
        field = form["file"]
        assert isinstance(field, web.FileField)
        with field.file as file:
            image = file.read()
        self.seen.append(sha256(image).hexdigest())
        return await self.answer(image)

    async def _readyz(self, _: web.Request) -> web.Response:
        return web.json_response({}, status=200 if self.is_ready else 503)

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_post("/predict", self._predict)
        application.router.add_get("/readyz", self._readyz)
        return application


@asynccontextmanager
async def scripted_ocr_api() -> AsyncIterator[ScriptedOcrApi]:
    api = ScriptedOcrApi()
    async with TestServer(api.application()) as server:
        api.url = HttpUrl(str(server.make_url("/")))
        yield api
