"""The OpenAPI document's examples are what the API answers, word for word where it can be asked."""

from typing import Any

import pytest
from aiohttp import SocketTimeoutError

from app.engines.loading import load_engine
from infra.local.site import FOLDER
from services.common.download.responses import to_download_error
from services.common.download.settings import DownloadSettings
from tests.support.images import line_image, png_header
from tests.support.running_ocr_api import Api, running_api


async def test_examples_are_what_the_api_answers() -> None:
    engine = load_engine("rapidocr")
    async with running_api(lambda: engine) as api:
        document = await (await api.session.get("/openapi.json")).json()
        answers = document["paths"]["/predict"]["post"]["responses"]

        read = (await api.predict((FOLDER / "mot-wikipedia.png").read_bytes()))[1]
        shown = answers["200"]["content"]["application/json"]["example"]
        assert {**read, "duration_ms": 0} == {
            **shown,
            "score": pytest.approx(shown["score"], abs=1e-3),
            "expected_cer": pytest.approx(shown["expected_cer"], abs=1e-4),
            "duration_ms": 0,
        }

        refused = [
            (await api.predict(png_header(6000, 5000)))[1],
            (await api.predict(b"text"))[1],
            await _without_file(api),
            await _from_url(api, "http://10.0.0.1/line.png"),
        ]
    late = to_download_error(SocketTimeoutError(), DownloadSettings(), 30)
    assert {each["code"]: each for each in refused}.keys() < _problems(answers).keys()
    for each in refused:
        assert _problems(answers)[each["code"]] == each
    assert _problems(answers)[late.code]["detail"] == late.detail


async def _without_file(api: Api) -> dict[str, Any]:
    async with api.post(line_image("a"), field="image") as response:
        return dict(await response.json(content_type=None))


async def _from_url(api: Api, url: str) -> dict[str, Any]:
    async with api.session.post("/predict", json={"url": url}) as response:
        return dict(await response.json(content_type=None))


def _problems(answers: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        code: example["value"]
        for answer in answers.values()
        for body in answer["content"].values()
        for code, example in body.get("examples", {}).items()
    }
