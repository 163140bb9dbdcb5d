"""Access to the review page, and checks of its forms."""

import asyncio

import pytest
from aiohttp import ClientSession, FormData, TCPConnector

from services.review.guard import MAX_FORM_BYTES
from services.review.main import WRONG_PASSWORDS_PER_MINUTE
from tests.support.review import OpenReview, Person, Site, fields_of, known
from tests.support.web import FORM_TYPE, TWO_LENGTHS, chunked, exchange

PASSWORD = "right horse"


async def test_nothing_is_shown_without_a_login(review: Site) -> None:
    async with ClientSession(review.url) as client:
        for path in (
            "/",
            "/queue",
            "/gallery?q=a",
            "/image?id=a",
            "/content?id=a&etag=b",
            "/batches",
        ):
            async with client.get(path, allow_redirects=False) as response:
                assert response.status == 303
                assert response.headers["Location"].startswith("/login?then=")
        answer, data = "/queue/answer?mode=random", {"action": "save"}
        async with client.post(answer, data=data, allow_redirects=False) as response:
            assert response.headers["Location"] == "/login?then=%2Fqueue%2Fanswer%3Fmode%3Drandom"
        async with client.post("/queue/keep", allow_redirects=False) as response:
            assert response.headers["Location"] == "/login?then=%2F"
        shown = {"HX-Request": "true", "HX-Current-URL": f"{review.url}/gallery?q=a"}
        async with client.get("/gallery?q=a&wait=true", headers=shown) as response:
            assert response.headers["HX-Redirect"] == "/login?then=%2Fgallery%3Fq%3Da"
        for path in ("/livez", "/readyz", "/metrics"):
            async with client.get(path) as response:
                assert response.status == 200


async def test_wrong_password_is_refused(review_with: OpenReview) -> None:
    async with review_with(login_password=PASSWORD) as review:
        async with ClientSession(review.url) as client:
            form = {"name": "ada", "password": "wrong", "then": "/queue"}
            async with client.post("/login", data=form) as response:
                assert response.status == 403
                assert "Set-Cookie" not in response.headers
        async with review.person(password=PASSWORD) as ada:
            await ada.see("/queue")


async def test_few_of_many_concurrent_logins_are_checked(review_with: OpenReview) -> None:
    async with (
        review_with(login_password=PASSWORD) as review,
        ClientSession(review.url) as client,
    ):

        async def attempt(password: str) -> int:
            form = {"name": "eve", "password": password}
            async with client.post("/login", data=form, allow_redirects=False) as response:
                return response.status

        answers = await asyncio.gather(*(attempt(f"guess {number}") for number in range(40)))
        assert answers.count(403) == WRONG_PASSWORDS_PER_MINUTE
        assert answers.count(429) == 40 - WRONG_PASSWORDS_PER_MINUTE
        assert await attempt(PASSWORD) == 429


async def test_guesses_from_one_address_lock_no_other_out(review_with: OpenReview) -> None:
    async with review_with(login_password=PASSWORD) as review:

        async def attempt(address: str, password: str) -> int:
            connector = TCPConnector(local_addr=(address, 0))
            form = {"name": "eve", "password": password}
            async with (
                ClientSession(review.url, connector=connector) as client,
                client.post("/login", data=form, allow_redirects=False) as response,
            ):
                return response.status

        for number in range(WRONG_PASSWORDS_PER_MINUTE):
            assert await attempt("127.0.0.2", f"guess {number}") == 403
        assert await attempt("127.0.0.2", PASSWORD) == 429
        assert await attempt("127.0.0.3", PASSWORD) == 303


async def test_copy_of_a_cookie_is_no_login_after_logout(review: Site, ada: Person) -> None:
    await ada.see("/gallery")
    copied = {each.key: each.value for each in ada.client.cookie_jar}

    async with ClientSession(review.url, cookies=copied) as thief:
        async with thief.get("/gallery", allow_redirects=False) as response:
            assert response.status == 200
        await ada.send("/logout", {})
        async with thief.get("/gallery", allow_redirects=False) as response:
            assert response.status == 303


async def test_large_form_is_read_only_from_who_submits(review: Site, ada: Person) -> None:
    form = {"name": "ada", "password": "x" * MAX_FORM_BYTES}
    async with ClientSession(review.url) as client, client.post("/login", data=form) as response:
        assert response.status == 413
    await ada.see("/gallery")
    for path, status in {"/image/annotate": 413, "/queue/answer": 413, "/submit": 422}.items():
        files = FormData({"token": ada.token})
        files.add_field("text", bytes(MAX_FORM_BYTES), filename="")
        async with ada.client.post(path, data=files) as response:
            assert response.status == status, path


@pytest.mark.parametrize("cookie", ["", "a.b", "WyJhIiwgImIiLCA5ZTk5XQ==.0000", "é.é"])
async def test_made_up_cookie_is_no_login(review: Site, cookie: str) -> None:
    headers = {"Cookie": f"docreco_review={cookie}"}
    async with (
        ClientSession(review.url, headers=headers) as client,
        client.get("/queue", allow_redirects=False) as response,
    ):
        assert response.status == 303


@pytest.mark.parametrize("then", ["//evil.example", "https://evil.example", "/\\evil.example"])
async def test_login_leads_nowhere_else(review: Site, then: str) -> None:
    async with ClientSession(review.url) as client:
        form = {"name": "ada", "then": then}
        async with client.post("/login", data=form, allow_redirects=False) as response:
            assert response.headers["Location"] == "/"


@pytest.mark.parametrize(("forwarded", "is_secure"), [("", False), ("http, https", True)])
async def test_cookie_of_an_encrypted_page_is_never_sent_in_the_clear(
    review: Site, forwarded: str, *, is_secure: bool
) -> None:
    headers = {"X-Forwarded-Proto": forwarded}
    async with (
        ClientSession(review.url, headers=headers) as client,
        client.post("/login", data={"name": "ada"}, allow_redirects=False) as response,
    ):
        cookie = response.headers["Set-Cookie"].lower()
    assert ("; secure" in cookie) == is_secure
    assert "; httponly" in cookie
    assert "; samesite=strict" in cookie


async def test_form_without_its_token_is_refused(review: Site, ada: Person) -> None:
    image = known("one", 0.1)
    await review.add(image)
    await ada.see("/queue")
    for token in ("", "x", "0" * 64):
        fields = {"token": token, "id": image["_id"], "action": "save", "text": "forged"}
        assert "wrong_token" in await ada.send("/queue/answer", fields, status=403)
    assert (await review.document(image["_id"]))["annotation"] is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_form_from_another_site_is_refused(
    review: Site, ada: Person, headers: dict[str, str]
) -> None:
    await review.add(known("one", 0.1))
    task = await ada.see("/queue")
    form = {**fields_of(task), "action": "save"}
    async with ada.client.post("/queue/answer", data=form, headers=headers) as response:
        assert response.status == 403


@pytest.mark.parametrize("host", ["evil.example", "[", "[::1", "127.0.0.1]"])
async def test_another_host_name_is_refused(ada: Person, host: str) -> None:
    async with ada.client.get("/queue", headers={"Host": host}) as response:
        assert response.status == 421


async def test_every_page_carries_the_strict_headers(ada: Person) -> None:
    for path in ("/queue", "/gallery", "/quality", "/login", "/static/review.js", "/none"):
        async with ada.client.get(path) as response:
            policy = response.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
            assert "unsafe" not in policy
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            html = await response.text()
        assert "<style" not in html
        assert " style=" not in html
        assert "onclick" not in html


@pytest.mark.parametrize(
    ("lengths", "size", "status"),
    [
        (TWO_LENGTHS, 10, b"400"),
        (TWO_LENGTHS, MAX_FORM_BYTES + 1, b"400"),
        (["Transfer-Encoding: chunked"], MAX_FORM_BYTES + 1, b"413"),
        (["Transfer-Encoding: chunked"], 10, b"422"),
    ],
    ids=["two lengths", "two lengths of much", "chunks of much", "chunks"],
)
async def test_body_is_bounded_by_what_arrives(
    review: Site, lengths: list[str], size: int, status: bytes
) -> None:
    answer = await exchange(f"{review.url}/login", [FORM_TYPE, *lengths], chunked(b"a" * size))

    assert answer.startswith(b"HTTP/1.1 %b " % status)
