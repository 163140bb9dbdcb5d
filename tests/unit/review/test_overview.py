"""The overview: stages, what is wrong, and the chart, of made-up figures."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.common.adapters.prometheus import Alert, Series
from services.common.domain.fetcher_answers import BatchPage, HostStatus
from services.common.domain.image import ImageDocument
from services.quality.annotated import AnnotatedImage
from services.quality.tally import Tally
from services.review.chart import lines
from services.review.figures import Figures
from services.review.flow import Kind, stages, troubles
from services.review.overview import (
    JOBS,
    READ_RATE,
    THRESHOLD,
    ImageCounts,
    Monitoring,
    Snapshot,
    to_monitoring,
)
from tests.support.review import known

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
QUEUES = {"ocr.jobs": 5, "ocr.retry.5s": 2, "ocr.parked": 9, "pages.jobs": 3}
COUNTS = {"queued": 4, "stored": 5, "unchanged": 1, "failed": 2, "cancelled": 0}


def snapshot(**changes: Any) -> Snapshot:
    lists = {"batches": [{"batch_id": "b", "name": "n", "state": "running", "counts": COUNTS}]}
    whole: dict[str, Any] = {
        "images": ImageCounts(read=1200, rejected=3, annotated=40, with_text=30, to_decide=2),
        "pages": 7,
        "lists": BatchPage.model_validate(lists),
        "hosts": [],
        "parked": {"ocr.parked": 1},
        "monitoring": Monitoring(queues=QUEUES, threshold=0.5),
    }
    return Snapshot(NOW, **(whole | changes))


def flow(now: Snapshot) -> dict[str, tuple[int | None, list[str]]]:
    return {
        str(each.name): (each.count, [str(note.words) for note in each.notes])
        for each in stages(now, 6)
    }


def test_stages_count_what_passed_waits_and_failed() -> None:
    assert flow(snapshot()) == {
        "Lists": (1, ["1 running"]),
        "Fetched": (6, ["4 waiting", "2 failed"]),
        "Pages": (7, ["3 waiting"]),
        "Stored": (1211, ["7 waiting to be read", "1 parked"]),
        "Read": (1200, ["3 rejected"]),
        "Annotated": (40, ["1,160 left", "10 without a text", "2 to decide", "6 suspect"]),
        "To export": (30, []),
    }


def test_what_is_unknown_is_never_zero() -> None:
    now = Snapshot(NOW, away={"MongoDB": "gone", "The fetcher": "gone"})

    assert {count for count, _ in flow(now).values()} == {None}
    assert flow(now)["Stored"] == (None, ["waiting: unknown"])
    assert "Pages" not in flow(now)
    assert [str(each.what) for each in troubles(now, 0.1)] == [
        "MongoDB does not answer",
        "The fetcher does not answer",
    ]


def test_troubles_name_the_command_that_mends_them() -> None:
    alerts = [
        Alert(labels={"alertname": "MessagesParked"}, state="firing"),
        Alert(labels={"alertname": "ImageAgeHigh", "severity": "warning"}, state="firing"),
    ]
    monitoring = Monitoring(down=["consumer"], queues=QUEUES, threshold=0.5, alerts=alerts)

    hosts = [HostStatus(host="slow.test", reason="retry_after", until=NOW)]

    found = troubles(snapshot(monitoring=monitoring, hosts=hosts), 0.4)

    assert [(each.kind, str(each.what), each.command or each.path) for each in found] == [
        (Kind.BAD, "consumer does not answer Prometheus", "docreco doctor"),
        (Kind.BAD, "Images that failed for good: 1 parked", "docreco parked list"),
        (
            Kind.BAD,
            "Mean score of the newest images: 0.400, below 0.500",
            "/gallery?order=worst",
        ),
        (Kind.WARN, "Paused hosts: 1", "docreco hosts"),
        (Kind.WARN, "ImageAgeHigh", "/alerts/ImageAgeHigh"),
    ]
    assert troubles(snapshot(parked={"ocr.parked": 0}), 0.6) == []


def test_answer_of_prometheus_is_read() -> None:
    def series(value: float, **labels: str) -> Series:
        return Series(metric=labels, value=(0.0, value))

    up = [series(1, __name__="up", job=job, instance=job) for job in JOBS if job != "consumer"]
    found = [
        *up,
        series(0, __name__="up", job="ocr-api", instance="b:1"),
        series(0.5, __name__=THRESHOLD),
        series(12.3, __name__=READ_RATE),
        series(3.0, rate="fetched"),
        series(4, queue="ocr.jobs"),
        series(1, __name__="ocr_model_info", model_version="m@1", job="ocr-api", instance="b:1"),
        series(3, outcome="agreed"),
    ]
    alerts = [Alert(labels={}, state="pending"), Alert(labels={}, state="firing")]

    assert to_monitoring(found, alerts) == Monitoring(
        down=["consumer", "ocr-api at b:1"],
        queues={"ocr.jobs": 4},
        read_per_minute=12.3,
        fetched_per_minute=3.0,
        threshold=0.5,
        served=("m@1",),
        shadow={"agreed": 3},
        alerts=alerts[1:],
    )


def figures(*images: dict[str, Any]) -> Figures:
    counted = Figures(counted_at=NOW)
    for number, image in enumerate(images):
        document = ImageDocument.model_validate(known(f"text {number}", 0.5) | image)
        counted.add(AnnotatedImage.of([document]))
    return counted


def read_at(at: datetime, score: float = 0.5, collection: str = "c") -> dict[str, Any]:
    prediction = {"text": "abcd", "score": score, "predicted_at": at}
    return {"prediction": prediction, "sources": [{"collection": collection}]}


@pytest.mark.parametrize(
    ("span", "steps"), [(timedelta(hours=1), 7), (timedelta(days=2), 48), (timedelta(days=50), 51)]
)
def test_steps_of_time_fit_their_span(span: timedelta, steps: int) -> None:
    counted = figures(*(read_at(NOW - span * share / 600) for share in range(601)))

    found = counted.by_time()

    assert abs(len(found) - steps) <= 1
    assert sum(tally.images for _, tally in found) == 601
    assert [at for at, _ in found] == sorted(at for at, _ in found)


def test_images_of_long_ago_are_not_in_the_chart() -> None:
    assert figures(read_at(NOW - timedelta(days=400))).by_time() == []


def test_source_that_is_read_worst_needs_enough_images() -> None:
    good = [read_at(NOW, 0.9, "good")] * 10
    bad = [read_at(NOW, 0.3, "bad")] * 10
    few = [read_at(NOW, 0.1, "few")] * 9
    note = {"annotation": {"text": "abcx", "quality": "ok", "by": "ada"}}

    by_score = figures(*good, *bad, *few).worst()
    by_error = figures(*bad, *few, *(each | note for each in good)).worst()

    assert by_score is not None
    assert by_error is not None
    assert (by_score.limit, by_score.name) == ("collection", "bad")
    assert (by_error.name, by_error.tally.error_rate) == ("good", 0.25)
    assert figures(*good, *few).worst() is None


def test_chart_leaves_out_what_is_unknown() -> None:
    steps = [
        (NOW, Tally(images=2, score_sum=1.0)),
        (NOW + timedelta(hours=1), Tally(images=1, score_sum=1.0, errors=3, characters=2)),
    ]

    mean, rate = lines(steps)

    assert mean.path == "M0.00 25.00L100.00 0.00"
    assert rate.dots == [("M100.00 0.00h0", NOW + timedelta(hours=1), 1.5)]
    assert [each.path for each in lines([])] == ["", ""]
