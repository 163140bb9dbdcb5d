"""Lists that are sent: formats, compression, what is read of them, and what is refused."""

import gzip
from io import BytesIO
from zipfile import ZIP_STORED

import aiohttp
import pytest

from tests.support.archives import zip_of
from tests.support.fetcher import Surroundings, get_json, post_list, running_fetcher, wait_done
from tests.support.web import TWO_LENGTHS, WebSite, chunked, exchange, png

WORKBOOK = zip_of({"[Content_Types].xml": b"<Types/>", "xl/media/image1.png": png(1)})
ODS = b"application/vnd.oasis.opendocument.spreadsheet"
FORM = '--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nx\r\n--b--\r\n'


async def test_csv_as_a_file_of_a_form_reports_its_bad_lines(
    api: aiohttp.ClientSession, site: WebSite
) -> None:
    table = f'URL,Text\n{site.add_body("/a", png(1))},"a, b"\nftp://x.test/,c\n,d\n'
    form = aiohttp.FormData()
    form.add_field("name", "table")
    form.add_field("file", BytesIO(table.encode()), filename="list.csv")

    async with api.post("/batches", data=form) as response:
        submitted = await response.json()

    assert response.status == 202
    assert submitted["accepted"] == 1
    assert submitted["rejected_count"] == 2
    assert [(row["line"], row["code"]) for row in submitted["rejected"]] == [
        (3, "unsupported_scheme"),
        (4, "invalid_url"),
    ]
    batch = await wait_done(api, submitted["batch_id"])
    assert (batch["name"], batch["counts"]["stored"]) == ("table", 1)


async def test_list_that_is_empty_or_all_bad_leaves_no_batch(api: aiohttp.ClientSession) -> None:
    for content, count in (("", 0), ("# only this\n\n", 0), ("ftp://x\nnothing\n", 2)):
        status, problem = await post_list(api, content, "text/plain")

        assert (status, problem["code"]) == (422, "empty_list")
        assert problem["rejected_count"] == count
        assert [row["line"] for row in problem["rejected"]] == list(range(1, count + 1))
    assert (await get_json(api, "/batches")) == {"batches": [], "next": None}


CSV = {"Content-Type": "text/csv"}


TABLE = (
    "fonds;lien_scan;texte_verifie\n"
    "7;http://x.test/a.png;put down; and up\n"
    "8;http://x.test/b.png;\n"
)


async def test_answer_tells_how_a_list_was_read(api: aiohttp.ClientSession) -> None:
    where = {"url_column": "lien_scan", "text_column": "texte_verifie"}
    async with api.post("/batches", data=TABLE, headers=CSV, params=where) as response:
        assert response.status == 202
        reading = (await response.json())["reading"]

    assert (reading["rows"], reading["with_text"]) == (2, 1)
    assert reading["columns"] == {"image": "lien_scan", "text": "texte_verifie"}
    assert (reading["metadata_columns"], reading["ignored_columns"]) == (["fonds"], [])
    assert (reading["separator"], reading["encoding"]) == (";", "utf-8-sig")
    assert [(note["line"], note["code"]) for note in reading["notes"]] == [(2, "cells_joined")]


async def test_dry_run_shows_rows_and_keeps_nothing(api: aiohttp.ClientSession) -> None:
    where = {"url_column": "lien_scan", "text_column": "texte_verifie", "dry_run": "true"}
    async with api.post("/batches", data=TABLE, headers=CSV, params=where) as response:
        assert response.status == 200
        preview = await response.json()

    assert preview["accepted"] == 2
    assert preview["rows"][0] == {
        "line": 2,
        "url": "http://x.test/a.png",
        "annotation": "put down; and up",
    }
    assert (await get_json(api, "/batches"))["batches"] == []


async def test_strict_list_is_taken_whole_or_not_at_all(api: aiohttp.ClientSession) -> None:
    where = {"url_column": "lien_scan", "text_column": "texte_verifie", "strict": "true"}
    async with api.post("/batches", data=TABLE, headers=CSV, params=where) as response:
        assert response.status == 422
        problem = await response.json()
    assert problem["code"] == "strict_list"
    assert problem["reading"]["note_count"] == 1
    assert (await get_json(api, "/batches"))["batches"] == []

    good = TABLE.replace("; and", " and")
    async with api.post("/batches", data=good, headers=CSV, params=where) as response:
        assert response.status == 202


async def test_declared_encoding_of_a_list_is_used(api: aiohttp.ClientSession) -> None:
    content = "url,text\nhttp://x.test/a.png,Žluťoučký\n".encode("windows-1250")
    headers = {"Content-Type": "text/csv; charset=windows-1250"}
    async with api.post(
        "/batches", data=content, headers=headers, params={"dry_run": "1"}
    ) as response:
        preview = await response.json()
    assert preview["rows"][0]["annotation"] == "Žluťoučký"

    async with api.post("/batches", data=content, headers=CSV, params={"encoding": "x"}) as refused:
        assert refused.status == 422
        assert "unknown encoding" in (await refused.json())["detail"]


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code"),
    [
        ('{"items": [\n{"url": }]}', "application/json", 422, "malformed_list"),
        ("[]", "application/json", 422, "empty_list"),
        ('{"list_url": 7}', "application/json", 422, "malformed_list"),
        ('{"list_url": "http://x.test/", "items": []}', "application/json", 422, "malformed_list"),
        ("name,age\nx,1\n", "text/csv", 422, "malformed_list"),
        ("http://x.test/", "image/png", 415, "unsupported_list_format"),
        ("x" * 3000, "text/plain", 413, "list_too_large"),
        ("{" + " " * 2000, "application/json", 413, "list_too_large"),
        ("--b\r\nbroken", "multipart/form-data; boundary=b", 422, "malformed_request"),
        ("--b--\r\n", "multipart/form-data; boundary=b", 422, "malformed_request"),
        ("x", "multipart/form-data", 422, "malformed_request"),
        (FORM, "multipart/form-data; boundary=b; charset=undefined", 422, "malformed_request"),
        (FORM, "multipart/form-data; boundary=b; charset=punycode", 422, "malformed_request"),
    ],
)
async def test_request_that_is_no_list_is_a_problem(
    surroundings: Surroundings, content: str, content_type: str, status: int, code: str
) -> None:
    async with running_fetcher(surroundings, max_list_bytes=2500, max_json_bytes=1000) as api:
        answer, problem = await post_list(api, content, content_type)

    assert (answer, problem["code"], problem["status"]) == (status, code, status)
    if content.startswith('{"items"'):
        assert problem["rejected"][0]["line"] == 2
    if content_type == "text/csv":
        assert problem["rejected"][0]["code"] == "no_url_column"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("page.pdf", b"x", "submit it as pages (--pages; over HTTP: pages=true)"),
        ("one.jpg", b"x", "declared as an image, but not one of"),
        ("list.docx", b"x", "is not supported: send text/plain"),
        ("list.xlsx", WORKBOOK, "save a table as CSV"),
        ("list.ods", zip_of({"mimetype": ODS}, compression=ZIP_STORED), "save a table as CSV"),
        ("list.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), "save a table as CSV"),
    ],
)
async def test_file_that_is_no_list_says_what_to_do(
    api: aiohttp.ClientSession, name: str, content: bytes, words: str
) -> None:
    form = aiohttp.FormData()
    form.add_field("file", content, filename=name)
    async with api.post("/batches", data=form) as response:
        problem = await response.json()
    assert (response.status, problem["code"]) == (415, "unsupported_list_format")
    assert words in problem["detail"]
    assert len(problem["detail"]) < 160


async def test_json_in_a_form_has_the_limit_of_json(surroundings: Surroundings) -> None:
    form = aiohttp.FormData()
    form.add_field("file", BytesIO(b"{" + b" " * 1500), filename="list.json")
    async with (
        running_fetcher(surroundings, max_list_bytes=2500, max_json_bytes=1000) as api,
        api.post("/batches", data=form) as response,
    ):
        assert (response.status, (await response.json())["code"]) == (413, "list_too_large")


@pytest.mark.parametrize(
    ("file_name", "content"),
    [
        ("list.txt", "http://127.0.0.1:1/a\n"),
        ("list.csv", "url,text\nhttp://127.0.0.1:1/a,b\n"),
        ("list.tsv", "url\ttext\nhttp://127.0.0.1:1/a\tb\n"),
        ("list.jsonl", '{"url": "http://127.0.0.1:1/a"}\n'),
        ("list.json", '{"items": [{"url": "http://127.0.0.1:1/a"}]}'),
    ],
)
async def test_compressed_list_is_the_same_list(
    api: aiohttp.ClientSession, file_name: str, content: str
) -> None:
    compressed = gzip.compress(content.encode())
    answers = []
    for name, data in ((file_name, content.encode()), (f"{file_name}.gz", compressed)):
        form = aiohttp.FormData()
        form.add_field("file", BytesIO(data), filename=name)
        headers = {"Idempotency-Key": file_name}
        async with api.post("/batches", data=form, headers=headers) as response:
            assert response.status == 202
            answers.append(await response.json())

    assert answers[0] == answers[1]
    assert answers[0]["accepted"] == 1


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (gzip.compress(b"#" * 2501), 413, "list_too_large"),
        (gzip.compress(b"http://x.test/")[:-9], 422, "malformed_list"),
        (gzip.compress(b"http://x.test/")[:-8] + b"8 bytes.", 422, "malformed_list"),
        (b"\x1f\x8b\x08\x00" + b"\xff" * 20, 422, "malformed_list"),
    ],
    ids=["bomb", "cut", "checksum", "garbage"],
)
async def test_too_large_or_broken_compressed_list_is_refused(
    surroundings: Surroundings, content: bytes, status: int, code: str
) -> None:
    headers = {"Content-Type": "text/plain"}
    async with (
        running_fetcher(surroundings, max_list_bytes=2500, max_json_bytes=1000) as api,
        api.post("/batches", data=content, headers=headers) as response,
    ):
        assert (response.status, (await response.json())["code"]) == (status, code)


async def test_body_of_two_lengths_is_refused(api: aiohttp.ClientSession) -> None:
    assert api._base_url is not None
    url = api._base_url.with_path("/batches")
    answer = await exchange(url, ["Content-Type: text/csv", *TWO_LENGTHS], chunked(b"a"))

    assert answer.startswith(b"HTTP/1.1 400 ")
