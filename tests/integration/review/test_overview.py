"""The overview against real servers: what it counts, and what it says where one is away."""

import json
import re
from pathlib import Path

from aiohttp import ClientSession
from pydantic import HttpUrl

from services.common.adapters.rabbitmq.messaging import open_publisher
from services.common.domain.trained_models import POINTER, RECORD
from services.common.runtime.settings import AmqpSettings
from services.review.overview import THRESHOLD
from tests.factories import decision, model_record
from tests.support.indexing import open_event_queues
from tests.support.review import NOW, OpenReview, Person, known
from tests.support.waiting import eventually
from tests.support.web import WebSite

NOTE = {"text": "one", "quality": "ok", "by": "ada", "at": NOW}
HOSTILE = "<script>alert(1)</script>"


def stages(html: str) -> dict[str, str]:
    found = re.findall(r'class="name">([^<]+)</span> <strong>([^<]+)</strong>', html)
    return dict(found)


def wrong(html: str) -> list[str]:
    return re.findall(r'<li class="\w+"><strong>([^<]+)</strong>', html)


async def test_overview_counts_what_is_there_and_what_is_parked(
    api: ClientSession, review_with: OpenReview, amqp_settings: AmqpSettings
) -> None:
    async with (
        open_event_queues(amqp_settings) as queues,
        review_with(queues=queues, fetcher_url=str(api._base_url)) as review,
        review.person() as ada,
    ):

        async def counted(wanted: dict[str, str]) -> str | None:
            html = await ada.see("/")
            return html if wanted.items() <= stages(html).items() else None

        html = await eventually(lambda: counted({"Lists": "0", "Read": "0", "Stored": "0"}))
        assert "Start here" in html
        assert 'id="drop"' in html
        assert "<code>REVIEW_PROMETHEUS_URL</code> is not set" in html
        assert wrong(html) == []

        rejected = known("two", 0.1, status="rejected", prediction=None)
        await review.add(known("one", 0.5, annotation=NOTE), known("three", 0.5), rejected)
        async with open_publisher(amqp_settings) as publisher:
            await publisher.publish(b"{}", queue=queues.parked)
        html = await eventually(lambda: counted({"Read": "2", "Stored": "4", "Annotated": "1"}))
        assert "Start here" not in html
        # The test has one parking queue for both
        assert wrong(html) == [
            f"{each} that failed for good: 1 parked" for each in ("Images", "Fetches")
        ]
        assert "<code>docreco parked list</code>" in html
        assert "1 rejected</a>" in html


async def test_overview_says_what_is_away_and_never_zero(
    review_with: OpenReview, site: WebSite, tmp_path: Path
) -> None:
    series = [
        ({"__name__": "up", "job": "consumer", "instance": "c:1"}, "0"),
        ({"__name__": THRESHOLD}, "0.5"),
        ({"queue": "ocr.jobs"}, "7"),
        ({"__name__": "ocr_model_info", "model_version": "lines-1@f00"}, "1"),
        *(
            ({"outcome": outcome}, count)
            for outcome, count in (("agreed", "6"), ("disagreed", "2"))
        ),
    ]
    result = [{"metric": labels, "value": [0, value]} for labels, value in series]
    alert = {"labels": {"alertname": "A"}, "annotations": {"summary": HOSTILE}, "state": "firing"}
    answers = {"query": {"result": result}, "alerts": {"alerts": [alert]}}
    for path, data in answers.items():
        body = json.dumps({"status": "success", "data": data}).encode()
        site.add_body(f"/api/v1/{path}", body, content_type="application/json")
    write_promoted_model(tmp_path)
    async with (
        review_with(
            prometheus_url=HttpUrl(site.base_url),
            quality_refresh_seconds=0.1,
            models=tmp_path,
        ) as review,
        review.person() as ada,
    ):
        await review.store.client.create_bucket(Bucket=review.store.bucket)
        await review.add(*(known(f"line {number}", 0.2) for number in range(10)))

        async def complete() -> str | None:
            html = await ada.see("/")
            return html if "Mean score of the newest images: 0.200" in html else None

        html = await eventually(complete)
        models = await ada.see("/models")
        site.add_body("/api/v1/query", b"no JSON")
        await eventually(lambda: says(ada, "Prometheus does not answer"))
    assert stages(html)["Lists"] == stages(html)["Fetched"] == "unknown"
    assert "7 waiting to be read" in html
    assert {"The fetcher does not answer", "consumer at c:1 does not answer Prometheus"} < {
        *wrong(html)
    }
    assert "&lt;script&gt;alert(1)" in html
    assert "&lt;script&gt;alert(1)" in models
    assert "<code>lines-1@f00</code>" in models
    assert "too: 8, otherwise: 2 (25.0%). Left out, as too many waited: 0, failed: 0." in models
    badges = re.findall(r'class="badge \w+">(\w+)</span>', models)
    assert badges == ["promoted", "refused", "forced"]
    assert 'class="note" lang="en">set A rises<' in models
    assert 'Warning: <span lang="en">set B rises<' in models
    assert HOSTILE not in html
    assert 'class="limit"' in html


def write_promoted_model(folder: Path) -> None:
    """Write a model that was promoted although it was refused."""
    (folder / "lines-1").mkdir()
    refused = decision(problems=["set A rises"], warnings=["set B rises"])
    record = model_record(model="lines-1", decision=refused)
    (folder / "lines-1" / RECORD).write_text(json.dumps(record))
    act = {"at": f"{NOW}", "by": "ada", "reason": HOSTILE}
    promotion = {"model": "lines-1", "content_hash": "f00", "promoted": act, "is_forced": True}
    (folder / POINTER).write_text(json.dumps({"promotions": [promotion]}))


async def says(person: Person, words: str) -> bool:
    return words in await person.see("/")
