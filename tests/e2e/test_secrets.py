"""Secrets that are given to the running pipeline are nowhere but where they are needed."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from uuid import uuid4

from aiohttp import ClientSession, FormData, web
from pymongo import MongoClient

from services.common.adapters.rabbitmq.dead_letters import peek
from services.common.adapters.rabbitmq.retry_policy import FETCH_QUEUES, OCR_QUEUES
from services.common.domain.batch import unpack_rows
from tests.support.images import line_image
from tests.support.pipeline import Client, Pipeline
from tests.support.review import open_person
from tests.support.web import WebSite

RUN = uuid4().hex[:8]
ALLOWED = {"fetches.url", "lists.rows", "failed.csv"}
"""Requested URLs, and lists for another submission (docs/security.md)."""


def secret(name: str) -> str:
    return f"s3cret{name}{RUN}"


PASSWORDS = {
    "REVIEW_LOGIN_PASSWORD": secret("login"),
    "REVIEW_FETCHER_TOKEN": secret("token"),
    "LABEL_STUDIO_URL": "http://127.0.0.1:9",
    "LABEL_STUDIO_TOKEN": secret("studio"),
    "LABEL_STUDIO_WEBHOOK_SECRET": secret("webhook"),
}


def add_pages(site: WebSite) -> list[dict[str, str]]:
    """Let a site answer in all ways; return the items of a list of its URLs."""
    for name in ("good", "long", "listed"):
        site.add_body(f"/{RUN}/{name}.png", line_image(f"{name} {RUN}"))
    target = f"/{RUN}/none?session={secret('location')}"

    async def moved(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": target})

    site.add(f"/{RUN}/moved", moved)
    listed = f"{site.url(f'/{RUN}/listed.png')}?x-api-key={secret('listed')}"
    site.add_body(f"/{RUN}/of-secrets.csv", f"url,annotation\n{listed},listed\n".encode())
    queries = {
        "good.png": f"token={secret('query')}",
        "long.png": f"pad={'x' * 2500}&id_token={secret('long')}",
        "missing.png": f"PHPSESSID={secret('missing')}",
        "moved": f"refresh_token={secret('moved')}",
    }
    items = [{"url": f"{site.url(f'/{RUN}/{name}')}?{queries[name]}"} for name in queries]
    items[0]["thumbnail"] = f"http://example.org/small?token={secret('metadata')}"
    return [*items, {"url": f"http://ada:{secret('user')}@example.org/a.png"}]


def leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for each in value.values():
            yield from leaves(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from leaves(each)
    else:
        yield str(value)


def collections(pipeline: Pipeline) -> Iterator[tuple[str, str]]:
    """Yield what every document of every collection holds, by collection and field."""
    with MongoClient[dict[str, Any]](str(pipeline.mongo.url)) as client:
        database = client[pipeline.mongo.database]
        for name in database.list_collection_names():
            for document in database[name].find():
                if name == "lists":
                    document["rows"] = unpack_rows(document["rows"])
                for field, value in document.items():
                    yield f"{name}.{field}", " ".join(leaves(value))


async def objects(client: Client) -> AsyncIterator[tuple[str, str]]:
    async for listed in client.store.list():
        info = await client.store.head(listed.key)
        yield f"object {listed.key}", " ".join([listed.key, *leaves(info and info.metadata)])


async def pages(pipeline: Pipeline, batches: list[str]) -> AsyncIterator[tuple[str, str]]:
    """Yield the pages of the review service and the answers of all APIs."""
    paths = ["/batches", *(f"/batches/{batch}" for batch in batches)]
    listed = [f"/batches/{batch}/items?limit=500" for batch in batches]
    async with ClientSession() as session:
        urls = [f"{pipeline.fetcher_url}{path}" for path in (*paths, *listed)]
        urls += [
            f"{base}/{name}"
            for base in (
                *(pipeline.fetcher_url, pipeline.ocr_url),
                *(pipeline.consumer_url, pipeline.review_url),
            )
            for name in ("metrics", "readyz", "livez")
        ]
        for url in urls:
            async with session.get(url) as response:
                yield url, await response.text()
        for batch in batches:
            async with session.get(
                f"{pipeline.fetcher_url}/batches/{batch}/failed.csv"
            ) as response:
                yield "failed.csv", await response.text()
    async with open_person(
        pipeline.review_url, "ada", PASSWORDS["REVIEW_LOGIN_PASSWORD"]
    ) as person:
        for path in (*paths, "/gallery", "/queue", "/quality", f"/gallery?q={RUN}"):
            yield f"page {path}", await person.see(path)


async def messages(pipeline: Pipeline) -> AsyncIterator[tuple[str, str]]:
    for queues in (OCR_QUEUES, FETCH_QUEUES):
        for message in await peek(pipeline.amqp, queues, lambda _: True):
            yield queues.parked, f"{message.headers} {message.body!r} {message.reason}"


async def test_secrets_stay_where_they_are_needed(
    client: Client, site: WebSite, pipeline: Pipeline
) -> None:
    submitted: list[tuple[str, str]] = []
    batches: list[str] = []
    reference = {"list_url": f"{site.url(f'/{RUN}/of-secrets.csv')}?sig={secret('reference')}"}
    async with pipeline.changed({"review": PASSWORDS}):
        for body in ({"items": add_pages(site)}, reference):
            async with client.fetcher.post("/batches", json=body) as response:
                assert response.status == 202, await response.text()
                submitted.append(("answer to a list", await response.text()))
                batches.append((await response.json())["batch_id"])
        form = FormData({"source_url": f"http://example.org/b?access_token[]={secret('api')}"})
        form.add_field("file", line_image(f"api {RUN}"), filename="a.png")
        async with (
            ClientSession(pipeline.ocr_url) as session,
            session.post("/predict", data=form) as response,
        ):
            assert response.status == 200, await response.text()
            submitted.append(("answer to an image", await response.text()))
        for batch in batches:
            await client.completed(batch)
        await client.count_reaches(3, {"sources.batch_id": {"$in": batches}})
        await client.document({"sources.url": {"$regex": "^http://example.org/b"}})

        found = [*submitted, *collections(pipeline)]
        found += [each async for each in objects(client)]
        found += [each async for each in pages(pipeline, batches)]
        found += [each async for each in messages(pipeline)]
    logs = pipeline.home.log_path("fetcher").parent
    found += [(f"log {path.name}", path.read_text(errors="replace")) for path in logs.iterdir()]

    leaks = sorted({where for where, text in found if "s3cret" in text and RUN in text})
    seen = {where for where, text in found if any(each in text for each in _all_secrets())}
    assert seen == ALLOWED, leaks


def _all_secrets() -> list[str]:
    names = (
        *("query", "long", "missing", "moved", "location", "listed", "reference", "user", "api"),
        "metadata",
    )
    return [*map(secret, names), *(each for each in PASSWORDS.values() if "s3cret" in each)]
