"""The OCR API over HTTP: what it answers, whatever it is sent."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import FormData

from app.engines.base import Engine, EngineReading
from app.engines.loading import load_engine
from tests.support.images import CORPORA, line_image, readable_images
from tests.support.running_ocr_api import Api, FakeEngine, running_api
from tests.support.waiting import deadline, until

KIB = 1024
PROBLEM_JSON = "application/problem+json"

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


TEXT_FIELD = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--b--\r\n'


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load_engine("rapidocr")


@pytest.fixture
async def api(engine: Engine) -> AsyncIterator[Api]:
    """Serve the real engine, with a file limit that tests can exceed quickly."""
    async with running_api(lambda: engine, max_image_bytes=512 * KIB) as api:
        yield api


async def test_printed_word_is_read(api: Api, engine: Engine) -> None:
    status, body = await api.predict(line_image("Wikipedia"))

    assert status == 200
    assert body["text"] == "Wikipedia"
    assert 0.8 < body["score"] <= 1
    assert 0 <= body["expected_cer"] < 0.1
    assert body["engine"] == "rapidocr"
    assert body["model_version"] == engine.model_version
    assert (body["width"], body["height"]) == (218, 80)
    assert body["duration_ms"] > 0
    assert len(body) == 8


async def test_rotated_image_reports_its_upright_size(api: Api) -> None:
    status, body = await api.predict(readable_images("Wikipedia")["exif-rotated jpeg"])

    assert (status, body["text"]) == (200, "Wikipedia")
    assert (body["width"], body["height"]) == (218, 80)


@pytest.mark.parametrize(
    ("corpus", "status", "code"),
    [
        ("odd", 200, None),
        ("damaged", 422, "undecodable_image"),
        ("foreign", 415, "unsupported_media_type"),
        ("oversized", 413, "image_too_large"),
    ],
)
async def test_untrusted_files_get_their_own_answer(
    api: Api, corpus: str, status: int, code: str | None
) -> None:
    for name, content in CORPORA[corpus]().items():
        async with api.post(content) as response:
            body = await response.json(content_type=None)
            assert (response.status, body.get("code")) == (status, code), name
            if code:
                assert response.content_type == PROBLEM_JSON
                assert body["status"] == status
                assert body["detail"]


async def test_form_without_a_file_is_invalid(api: Api) -> None:
    async with api.post(line_image("a"), field="image") as response:
        body = await response.json(content_type=None)
    assert (response.status, body["code"]) == (422, "invalid_request")
    assert "'file' is missing" in body["detail"]

    form = FormData(default_to_multipart=True)
    form.add_field("file", "text")
    async with api.session.post("/predict", data=form) as response:
        body = await response.json(content_type=None)
    assert (response.status, body["code"]) == (422, "invalid_request")
    assert "not a file" in body["detail"]


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("application/json", b"{}", 422, "invalid_request"),
        ("application/json", b"[", 422, "invalid_request"),
        ("application/json", b'{"url": 1}', 422, "invalid_request"),
        ("application/json", b'{"url": "ftp://example.org"}', 422, "unsupported_scheme"),
        ("text/plain", b"{}", 415, "unsupported_media_type"),
        ("image/png", line_image("a"), 415, "unsupported_media_type"),
        ("multipart/form-data", b"x", 422, "invalid_request"),
        ("multipart/form-data; boundary=b", b"rubbish", 422, "invalid_request"),
        ("multipart/form-data; boundary=b", b"", 422, "invalid_request"),
        ("multipart/form-data; boundary=b; charset=undefined", TEXT_FIELD, 422, "invalid_request"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\n\r\n--b--", 422, "invalid_request"),
    ],
)
async def test_malformed_form_is_refused(
    api: Api, content_type: str, body: bytes, status: int, code: str
) -> None:
    headers = {"Content-Type": content_type}
    async with api.session.post("/predict", data=body, headers=headers) as response:
        problem = await response.json(content_type=None)

    assert (response.status, problem["code"]) == (status, code)
    assert response.content_type == PROBLEM_JSON


async def test_largest_file_is_read_and_one_byte_more_is_refused(api: Api) -> None:
    line = line_image("Wikipedia")
    largest = line + bytes(512 * KIB - len(line))

    assert (await api.predict(largest))[0] == 200
    status, body = await api.predict(largest + b"0")
    assert (status, body["code"]) == (413, "image_too_large")


async def test_endless_upload_is_cut_off_while_it_is_being_read(api: Api) -> None:
    sent = 0
    answered = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        while not answered.is_set():
            sent += 64 * KIB
            yield bytes(64 * KIB)
            await asyncio.sleep(0)

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    async with (
        deadline(),
        api.session.post("/predict", data=endless(), headers=headers) as response,
    ):
        answered.set()
        body = await response.json(content_type=None)

    assert (response.status, body["code"]) == (413, "image_too_large")


async def test_upload_that_does_not_end_is_given_up(engine: Engine) -> None:
    answered = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield b"--b\r\n"
        await answered.wait()

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    async with (
        running_api(lambda: engine, upload_timeout_seconds=0.1) as api,
        api.session.post("/predict", data=stuck(), headers=headers) as response,
    ):
        answered.set()
        body = await response.json(content_type=None)

    assert (response.status, body["code"]) == (408, "upload_too_slow")
    assert response.headers["Retry-After"] == "1"


async def test_more_requests_than_may_wait_are_turned_away_at_once() -> None:
    engine = FakeEngine(is_held=True)
    async with running_api(lambda: engine, threads=1, max_waiting=2) as api:
        image = line_image("a")
        async with asyncio.TaskGroup() as tasks:
            accepted = [tasks.create_task(api.predict(image)) for _ in range(3)]
            await until(lambda: api.queue.in_work == 3)

            async with deadline(), api.post(image) as response:
                body = await response.json(content_type=None)

            assert (response.status, body["code"]) == (503, "overloaded")
            assert int(response.headers["Retry-After"]) >= 1
            assert api.metric("ocr_rejections_total", code="overloaded") == 1
            engine.gate.set()
        assert [task.result()[0] for task in accepted] == [200, 200, 200]
        assert (await api.predict(image))[0] == 200


async def test_health_answers_while_every_thread_reads() -> None:
    engine = FakeEngine(is_held=True)
    async with running_api(lambda: engine, threads=2) as api, asyncio.TaskGroup() as tasks:
        image = line_image("a")
        predictions = [tasks.create_task(api.predict(image)) for _ in range(8)]
        await until(lambda: engine.calls == 2)  # one a thread

        for path in ("/livez", "/readyz", "/metrics"):
            async with deadline(), api.session.get(path) as response:
                assert response.status == 200

        assert not any(task.done() for task in predictions)
        engine.gate.set()


async def test_event_loop_keeps_its_pace_while_the_real_engine_reads(api: Api) -> None:
    content = line_image("The event loop keeps its pace", font_size=200, image_format="JPEG")
    answers = 0
    async with asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(api.predict(content)) for _ in range(6)]
        while not all(task.done() for task in work):
            async with api.session.get("/livez") as response:
                assert response.status == 200
            answers += 1

    assert all(task.result()[0] == 200 for task in work)
    assert answers > 2 * len(work)  # one for each, at most, where reading holds up the loop


@pytest.mark.parametrize(
    ("score", "answered", "is_low"),
    [
        (0.9, 0.9, False),
        (0.5, 0.5, False),
        (0.49, 0.49, True),
        (1.7, 1.0, False),
        (-1.0, 0.0, True),
        (float("nan"), 0.0, True),
        (float("inf"), 1.0, False),
    ],
)
async def test_score_is_bounded_and_counted(score: float, answered: float, is_low: bool) -> None:  # noqa: FBT001
    engine = FakeEngine(EngineReading("read", score))
    model = {"engine": "fake", "model_version": "1"}
    async with running_api(lambda: engine) as api:
        assert api.metric("ocr_predictions_total", **model) == 0

        status, body = await api.predict(line_image("a"))

        assert (status, body["score"]) == (200, answered)
        assert api.metric("ocr_predictions_total", **model) == 1
        assert api.metric("ocr_low_score_predictions_total", **model) == int(is_low)
        assert api.metric("ocr_prediction_score_sum", **model) == answered
        assert api.metric("ocr_prediction_duration_seconds_count", **model) == 1
        exposed = await (await api.session.get("/metrics")).text()
        assert 'ocr_prediction_score_bucket{engine="fake",le="0.5",model_version="1"}' in exposed


async def test_model_that_fails_to_load_is_not_ready_and_says_why() -> None:
    def load() -> Engine:
        raise FileNotFoundError("no weights in this wheel")

    async with running_api(load, is_ready=False) as api:
        await until(lambda: "failed" in api.predictor.state)

        async with api.session.get("/readyz") as response:
            body = await response.json()
        assert response.status == 503
        assert "no weights in this wheel" in body["checks"]["model"]
        assert (await api.session.get("/livez")).status == 200

        async with api.post(line_image("a")) as response:
            problem = await response.json(content_type=None)
        assert (response.status, problem["code"]) == (503, "not_ready")
        assert "Retry-After" in response.headers


async def test_description_tells_of_the_form_and_of_every_problem(api: Api) -> None:
    document = await (await api.session.get("/openapi.json")).json()
    operation = document["paths"]["/predict"]["post"]

    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["file"]
    expected = {"200", "401", "408", "413", "415", "422", "502", "503", "504"}
    assert operation["responses"].keys() == expected
    for status, answer in operation["responses"].items():
        assert (PROBLEM_JSON in answer["content"]) == (status != "200")
    assert (await api.session.get("/docs")).status == 200
