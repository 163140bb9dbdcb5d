"""Parameters of the fetcher's routes: given in any way they count, and unknown ones are refused."""

import json
from typing import Any

import aiohttp
import pytest

from services.fetcher.list_parameters import ListParameters
from tests.support.fetcher import get_json
from tests.support.web import WebSite

WAYS = ("query", "form", "json")
COLUMNS = {"url_column": "lien", "text_column": "texte"}
ROWS = [{"lien": "http://x.test/a.png", "texte": "Žluťoučký"}]


async def post(api: aiohttp.ClientSession, **request: Any) -> tuple[int, Any]:
    async with api.post("/batches", **request) as response:
        return response.status, await response.json()


def form(
    content: bytes, file_name: str, *fields: tuple[str, str], field: str = "file"
) -> aiohttp.FormData:
    made = aiohttp.FormData()
    made.add_field(field, content, filename=file_name)
    for name, value in fields:
        made.add_field(name, value)
    return made


def request(way: str, parameters: dict[str, str], rows: Any = ROWS) -> dict[str, Any]:
    """Return a request whose parameters stand in its address, form or JSON document."""
    if way == "json":
        return {"json": {"items": rows, **parameters}}
    table = "".join(f"{','.join(row)}\n" for row in [rows[0].keys(), *(r.values() for r in rows)])
    content = table.encode(parameters.get("encoding", "utf-8"))
    if way == "form":
        return {"data": form(content, "list.csv", *parameters.items())}
    return {"data": content, "headers": {"Content-Type": "text/csv"}, "params": parameters}


@pytest.mark.parametrize("way", WAYS)
async def test_list_is_read_as_its_parameters_say(api: aiohttp.ClientSession, way: str) -> None:
    encoding = {} if way == "json" else {"encoding": "cp1250"}
    status, preview = await post(api, **request(way, {**COLUMNS, **encoding, "dry_run": "1"}))

    assert status == 200, preview
    assert preview["rows"] == [
        {"line": 2 - (way == "json"), "url": "http://x.test/a.png", "annotation": "Žluťoučký"}
    ]
    assert (await get_json(api, "/batches"))["batches"] == []


async def test_batch_has_the_name_of_its_file_unless_one_is_given(
    api: aiohttp.ClientSession,
) -> None:
    async def submitted(file_name: str, *fields: tuple[str, str]) -> tuple[str, str]:
        data = form(b"http://x.test/a.png\n", file_name, *fields)
        status, said = await post(api, data=data, headers={"Idempotency-Key": str(len(fields))})
        assert status == 202, said
        batch = await get_json(api, f"/batches/{said['batch_id']}")
        return batch["batch_id"], batch["name"]

    first = await submitted("parish.txt")
    again = await submitted("copy of parish.txt")
    long = await submitted("é" * 300 + ".txt", ("collection", "long"))
    given = await submitted("parish.txt", ("collection", "long"), ("name", "Parish 1850"))

    assert first[1] == "parish.txt"
    assert again == first
    assert (len(long[1]), given[1]) == (200, "Parish 1850")


@pytest.mark.parametrize("way", WAYS)
async def test_strict_and_name_count_wherever_they_stand(
    api: aiohttp.ClientSession, way: str
) -> None:
    bad = [*ROWS, {"lien": "ftp://x.test/", "texte": "b"}]
    status, problem = await post(api, **request(way, {**COLUMNS, "strict": "true"}, bad))
    assert (status, problem["code"]) == (422, "strict_list")

    status, _ = await post(api, **request(way, {**COLUMNS, "name": "mine", "strict": "false"}, bad))
    assert status == 202
    assert [each["name"] for each in (await get_json(api, "/batches"))["batches"]] == ["mine"]


async def test_parameters_in_json_are_for_the_list_at_its_address(
    api: aiohttp.ClientSession, site: WebSite
) -> None:
    content = "lien,texte\nhttp://x.test/a.png,Žluťoučký\n".encode("utf-16-le")
    wish = {**COLUMNS, "encoding": "utf-16-le", "dry_run": True}
    url = {"list_url": site.add_body("/list.csv", content)}
    in_address = {name: str(value) for name, value in wish.items()}

    for asked in ({"json": url | wish}, {"json": url, "params": in_address}):
        status, preview = await post(api, **asked)
        assert status == 200, preview
        assert preview["rows"][0]["annotation"] == "Žluťoučký"


async def test_document_in_a_form_has_its_parameters_too(api: aiohttp.ClientSession) -> None:
    document = json.dumps({"items": ROWS, "total": 1, "dry_run": True, **COLUMNS})
    status, preview = await post(api, data=form(document.encode(), "list.json"))

    assert (status, preview["accepted"]) == (200, 1)


@pytest.mark.parametrize(
    ("asked", "where", "unknown"),
    [
        (request("query", {**COLUMNS, "dryrun": "1"}), "query", "dryrun"),
        (request("form", {**COLUMNS, "dryrun": "1"}), "form", "dryrun"),
        (request("json", {**COLUMNS, "dryrun": "1"}), "JSON document", "dryrun"),
        ({"data": form(b"http://x.test/", "a.txt", field="list")}, "form", "list"),
        ({"json": {"list_url": "http://x.test/", "url_colum": "a"}}, "JSON document", "url_colum"),
        ({"json": {"itemz": []}}, "JSON document", "itemz"),
    ],
)
async def test_unknown_parameter_of_a_list_is_refused_by_name(
    api: aiohttp.ClientSession, asked: dict[str, Any], where: str, unknown: str
) -> None:
    status, problem = await post(api, **asked)

    assert (status, problem["code"]) == (422, "unknown_parameter")
    assert problem["unknown"] == [unknown]
    assert {*ListParameters.model_fields} <= {*problem["known"]}
    assert f"the {where} has a parameter {unknown!r}, which is not known" in problem["detail"]
    assert "dry_run" in problem["detail"]
    assert (await get_json(api, "/batches"))["batches"] == []


@pytest.mark.parametrize(
    ("method", "path", "known"),
    [
        ("GET", "/batches?limits=1", ["cursor", "limit"]),
        ("GET", "/batches/none?x=1", []),
        ("GET", "/batches/none/items?outcom=failed", ["cursor", "limit", "outcome"]),
        ("GET", "/batches/none/failed.csv?x", ["spreadsheet"]),
        ("GET", "/batches/none/events?x=1", []),
        ("POST", "/batches/none/retry?all=1", ["scope"]),
        ("POST", "/batches/none/cancel?x=1", []),
        ("GET", "/hosts?x=1", ["limit"]),
    ],
)
async def test_unknown_parameter_of_any_route_is_refused(
    api: aiohttp.ClientSession, method: str, path: str, known: list[str]
) -> None:
    async with api.request(method, path) as response:
        problem = await response.json()

    assert (response.status, problem["code"]) == (422, "unknown_parameter")
    assert problem["known"] == known


@pytest.mark.parametrize(
    "asked",
    [
        {**request("form", {"strict": "1"}), "params": {"strict": "0"}},
        {**request("json", {"url_column": "lien"}), "params": {"url_column": "texte"}},
        {**request("json", {"name": "a"}), "params": {"name": "b"}},
        {"data": form(b"http://x.test/", "a.txt", ("encoding", "a"), ("encoding", "b"))},
        {"json": {"items": ROWS}, "params": [("dry_run", "1"), ("dry_run", "0")]},
    ],
)
async def test_parameters_that_contradict_each_other_are_refused(
    api: aiohttp.ClientSession, asked: dict[str, Any]
) -> None:
    status, problem = await post(api, **asked)

    assert (status, problem["code"]) == (422, "conflicting_parameters")
    assert (await get_json(api, "/batches"))["batches"] == []


async def test_parameter_given_twice_alike_is_no_contradiction(api: aiohttp.ClientSession) -> None:
    asked = request("form", {**COLUMNS, "dry_run": "true", "encoding": "cp1250"})
    status, preview = await post(api, **asked, params={"dry_run": "1", "url_column": "lien"})

    assert (status, preview["accepted"]) == (200, 1)


@pytest.mark.parametrize("way", WAYS)
async def test_value_that_is_none_of_a_parameter_is_refused(
    api: aiohttp.ClientSession, way: str
) -> None:
    status, problem = await post(api, **request(way, {"strict": "perhaps"}))

    assert (status, problem["code"]) == (422, "invalid_request")
    assert problem["errors"][0]["where"] == f"{way}.strict"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "value", "status"),
    [("licence", "x" * 300, 200), ("licence", "x" * 301, 422), ("collection", " ", 422)],
)
async def test_text_that_is_too_long_or_blank_is_refused(
    api: aiohttp.ClientSession, way: str, name: str, value: str, status: int
) -> None:
    asked = request(way, {**COLUMNS, name: value, "dry_run": "1"})
    answered, said = await post(api, **asked)

    assert answered == status, said
    if status == 422:
        assert said["errors"][0]["where"] == f"{way}.{name}"


async def test_documentation_shows_the_parameters_in_each_way(api: aiohttp.ClientSession) -> None:
    operation = (await get_json(api, "/openapi.json"))["paths"]["/batches"]["post"]
    content = operation["requestBody"]["content"]

    names = {*ListParameters.model_fields}
    assert {each["name"] for each in operation["parameters"] if each["in"] == "query"} == names
    assert names <= {*content["multipart/form-data"]["schema"]["properties"]}
    assert names <= {*content["application/json"]["schema"]["properties"]}
