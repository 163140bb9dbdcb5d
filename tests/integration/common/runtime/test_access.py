"""Attacks of a web page on a service through a user's browser."""

from aiohttp import ClientSession
from pydantic import SecretStr

from services.common.domain.batch import BatchState
from tests.support.fetcher import Surroundings, get_json, running_fetcher
from tests.support.images import line_image
from tests.support.ocr_api import predict
from tests.support.running_ocr_api import FakeEngine, running_api

LIST = b"http://attacker.example/a.png\n"
TEXT = {"Content-Type": "text/plain;charset=UTF-8"}
CROSS_SITE = [
    {"Origin": "https://attacker.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://attacker.example"},
    {"Origin": "null"},
    {"Origin": "http://["},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
]
REBOUND = ["rebound.attacker.example", "127.0.0.1.attacker.example:8081", "[", "[::1"]
OWN_NAMES = ["localhost", "LOCALHOST:8081", "gateway:8081", "10.1.2.3:8081", "[::1]:8081"]


async def submit(api: ClientSession, headers: dict[str, str]) -> tuple[int, str]:
    async with api.post("/batches", data=LIST, headers=TEXT | headers) as response:
        answer = await response.json()
        return response.status, answer.get("code", "")


async def test_no_other_site_submits_a_list(surroundings: Surroundings) -> None:
    async with running_fetcher(surroundings) as api:
        for headers in CROSS_SITE:
            assert await submit(api, headers) == (403, "cross_site"), headers
        for host in REBOUND:
            assert await submit(api, {"Host": host}) == (421, "unknown_host"), host
            async with api.get("/batches", headers={"Host": host}) as response:
                assert response.status == 421, host
        embedded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        async with api.get("/batches", headers=embedded) as response:
            assert response.status == 403
        assert await get_json(api, "/batches") == {"batches": [], "next": None}


async def test_own_pages_and_programs_submit_lists(surroundings: Surroundings) -> None:
    async with running_fetcher(surroundings) as api:
        for host in OWN_NAMES:
            own = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
            assert (await submit(api, own))[0] == 202, host
            assert (await submit(api, {"Host": host}))[0] == 202, host
        followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        async with api.get("/batches", headers=followed) as response:
            assert response.status == 200
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            states = {each["state"] for each in (await response.json())["batches"]}
        assert states <= set(BatchState)


async def test_host_names_come_from_the_setting(surroundings: Surroundings) -> None:
    async with running_fetcher(surroundings, hosts="Fetcher.Example, other.example") as api:
        assert (await submit(api, {"Host": "fetcher.example:443"}))[0] == 202
        assert (await submit(api, {"Host": "localhost"}))[0] == 421


async def test_token_makes_the_host_name_irrelevant(surroundings: Surroundings) -> None:
    async with running_fetcher(surroundings, api_token=SecretStr("a token")) as api:
        known = {"Host": "ocr.example", "Authorization": "Bearer a token"}
        assert (await submit(api, known))[0] == 202
        assert (await submit(api, {"Host": "ocr.example"}))[0] == 401
        assert (await submit(api, known | CROSS_SITE[0]))[0] == 403


async def test_no_other_site_sends_an_image() -> None:
    async with running_api(FakeEngine) as api:
        for headers in CROSS_SITE:
            assert await predict(api.session, line_image("mot"), headers) == 403, headers
        for host in REBOUND:
            assert await predict(api.session, line_image("mot"), {"Host": host}) == 421, host
        for host in ("ocr-api:8080", "gateway", "127.0.0.1:1"):
            assert await predict(api.session, line_image("mot"), {"Host": host}) == 200, host
    async with running_api(FakeEngine, api_token=SecretStr("a long token")) as api:
        known = {"Host": "ocr.example", "Authorization": "Bearer a long token"}
        assert await predict(api.session, line_image("mot"), known) == 200


async def test_health_is_asked_by_any_name_and_changes_nothing() -> None:
    async with running_api(FakeEngine) as api:
        for path in ("/livez", "/readyz", "/metrics"):
            async with api.session.get(path, headers={"Host": "pod-1.example"}) as response:
                assert response.status == 200, path
            async with api.session.post(path, headers={"Host": "pod-1.example"}) as response:
                assert response.status == 421, path
            async with api.session.post(path) as response:
                assert response.status == 405, path
