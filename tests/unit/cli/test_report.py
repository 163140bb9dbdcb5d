"""The quality report: figures from documents, and a page that strangers' texts cannot break."""

import re
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any
from uuid import uuid4

import pytest
from typing_extensions import override

from services.cli.report_figures import BINS, WORST, Figures
from services.cli.report_images import to_thumbnail
from services.cli.report_page import report_page
from services.common.domain.image import ImageDocument
from tests import factories
from tests.support.images import line_image

UNTIL = datetime(2026, 11, 24, 12, tzinfo=UTC)
SINCE = UNTIL - timedelta(days=7)
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>&\"'"


def document(score: float, **fields: Any) -> ImageDocument:
    prediction = {
        "text": fields.pop("text", "Wikipedia"),
        "score": score,
        "expected_cer": fields.pop("expected_cer", None),
        "engine": "rapidocr",
        "model_version": fields.pop("model_version", "1"),
        "predicted_at": fields.pop("at", UNTIL - timedelta(hours=1)),
    }
    return factories.document(prediction=prediction, **{"sha256": uuid4().hex, **fields})


def figures(*documents: ImageDocument) -> Figures:
    return factories.figures(documents, since=SINCE, until=UNTIL, low_score=0.5)


def annotated(text: str, quality: str = "ok") -> dict[str, Any]:
    return {"text": text, "quality": quality}


def test_mean_and_low_scores_are_counted() -> None:
    total = figures(document(0.9), document(0.5), document(0.1)).total
    assert total.images == 3
    assert total.mean == pytest.approx(0.5)
    assert total.low == 1
    assert total.low_share == pytest.approx(1 / 3)


def test_lines_count_by_tag_document_and_page() -> None:
    place = {"id": "pages/given/a.jpg", "line": "1", "image": "box/1.jpg", "tags": ["heading"]}
    book = {"id": "pages/rendered/1.webp", "line": "2", "group": "pages/book.pdf"}
    reference = annotated("Wikipedix")
    letters = [{"group": "letters"}]
    counted = figures(
        document(0.9, page=place, sources=letters, annotation=reference),
        document(0.5, page=book),
        document(0.1),
    )

    assert {
        kind: [(*name, tally.images, tally.errors) for name, tally in tallies]
        for kind, tallies in counted.lines.groups()
    } == {
        "tag": [("heading", "heading", 1, 1)],
        "document": [("letters", "letters", 1, 1), ("pages/book.pdf", "book.pdf", 1, 0)],
        "page": [
            ("pages/given/a.jpg", "box/1.jpg", 1, 1),
            ("pages/rendered/1.webp", "rendered/1.webp", 1, 0),
        ],
    }
    assert "Lines by document" in report_page(counted, critical=0.5)


def test_expected_error_rate_weighs_texts_by_their_length() -> None:
    known = [document(0.9, text="a" * length, expected_cer=1 / length) for length in (2, 8)]

    counted = figures(*known, document(0.1), document(0.0, text=""))
    assert counted.total.expected_error_rate == pytest.approx(2 / 10)
    assert counted.document()["expected_of_predictions"] == 2
    words = "Expected character error rate of texts that were read; 2 predictions without one left"
    assert words in report_page(counted, critical=0.5)


def test_without_predictions_there_is_no_mean() -> None:
    total = figures().total
    rates = (total.mean, total.low_share, total.error_rate, total.expected_error_rate)
    assert rates == (None, None, None, None)


def test_predictions_of_another_time_count_nothing() -> None:
    before, after = SINCE - timedelta(seconds=1), UNTIL + timedelta(seconds=1)
    assert figures(document(0.9, at=before), document(0.9, at=after)).total.images == 0


def test_character_errors_are_of_good_annotations_only() -> None:
    total = figures(
        document(0.9, text="Wikipcdia", annotation=annotated("Wikipedia")),
        document(0.9, text="abc", annotation=annotated("abcdefghi")),
        document(0.9, text="xyz", annotation=annotated("Wikipedia", "unreadable")),
        document(0.9, text="xyz", annotation=annotated("")),
        document(0.9, text="xyz", annotation=None),
    ).total
    assert (total.annotated, total.characters) == (2, 18)
    assert total.error_rate == pytest.approx((1 + 6) / 18)


def test_copies_are_one_image() -> None:
    assert figures(document(0.9, sha256="a"), document(0.1, sha256="a")).total.mean == 0.9


def test_models_and_times_are_told_apart() -> None:
    counted = figures(
        document(0.9, model_version="1", at=SINCE + timedelta(hours=1)),
        document(0.3, model_version="2", at=UNTIL - timedelta(hours=1)),
    )
    assert {name: tally.mean for name, tally in counted.models.items()} == {
        "rapidocr 1": 0.9,
        "rapidocr 2": 0.3,
    }
    assert [tally.images for tally in counted.buckets.values()] == [1, 1]


@pytest.mark.parametrize(("score", "place"), [(0.0, 0), (0.049, 0), (0.05, 1), (1.0, BINS - 1)])
def test_scores_fall_into_bins_and_a_full_score_into_the_last(score: float, place: int) -> None:
    assert figures(document(score)).distribution[place] == 1


def test_worst_are_the_lowest_scores_in_order_and_few() -> None:
    scores = [number / 100 for number in range(100)]
    worst = figures(*(document(score) for score in reversed(scores))).worst()
    assert [example.score for example in worst] == scores[:WORST]


@pytest.mark.parametrize("hours", [1 / 12, 1, 24, 168, 672, 8736])
def test_every_period_has_a_readable_number_of_steps(hours: float) -> None:
    counted = Figures(UNTIL - timedelta(hours=hours), UNTIL, 0.5)
    assert 2 <= len(list(counted.times())) <= 62


class Elements(HTMLParser):
    """Names of all elements, and every address they would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.loaded: list[str] = []
        self.handlers: list[str] = []
        self.feed(page)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.loaded += [str(v) for n, v in attrs if n in {"src", "href", "xlink:href", "data"}]
        self.handlers += [n for n, _ in attrs if n.startswith("on")]


@pytest.mark.parametrize("where", ["text", "model_version", "source", "id", "code"])
def test_untrusted_texts_stay_texts(where: str) -> None:
    hostile: dict[str, Any] = {
        "text": {"text": HOSTILE},
        "model_version": {"model_version": HOSTILE},
        "source": {"sources": [{"url": HOSTILE}]},
        "id": {"_id": HOSTILE},
        "code": {},
    }
    rejected = factories.document(sha256=None, status="rejected", error={"code": HOSTILE})
    page = report_page(figures(document(0.1, **hostile[where]), rejected), critical=0.5)
    elements = Elements(page)
    assert not elements.names & {"script", "img", "link", "iframe", "object"}
    assert not elements.handlers
    assert "alert(1)" in page


def test_page_loads_nothing() -> None:
    page = report_page(figures(document(0.9, annotation=annotated("Wikipedia"))), critical=0.5)
    assert Elements(page).loaded == []
    addresses = set(re.findall(r"https?://[^\"'\s<)]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"url\(|@import", page)


def test_page_shows_every_plot_and_both_colour_schemes() -> None:
    page = report_page(figures(document(0.9, annotation=annotated("Wikipedia"))), critical=0.5)
    assert page.count("<svg") == 6
    assert "prefers-color-scheme: dark" in page
    assert "critical threshold" in page


def test_page_without_annotations_has_no_plot_of_errors() -> None:
    assert report_page(figures(document(0.9)), critical=0.5).count("<svg") == 5


def test_page_of_an_empty_period_says_so() -> None:
    page = report_page(figures(), critical=0.5)
    assert "No prediction in this period." in page


def test_high_error_rate_is_marked_but_not_a_good_score() -> None:
    page = report_page(
        figures(document(0.9, text="xxx", annotation=annotated("abc"))), critical=0.5
    )
    assert 'class="number bad">100.0%' in page
    assert 'class="number ">0.900' in page


def test_judged_images_are_not_the_first_to_annotate() -> None:
    judged = document(0.1, annotation=annotated("", "not_a_line"))
    assert [each.score for each in figures(judged, document(0.2)).worst()] == [0.2]


def test_page_shows_thumbnails_of_the_first_to_annotate() -> None:
    counted = figures(document(0.1))
    picture = f"data:image/jpeg;base64,{b64encode(to_thumbnail(line_image('a'))).decode()}"
    page = report_page(counted, critical=0.5, thumbnails={counted.worst()[0].image: picture})
    assert Elements(page).loaded == [picture]
    assert len(picture) < 10_000


def test_mean_under_the_threshold_is_marked() -> None:
    assert 'class="number bad">0.100' in report_page(figures(document(0.1)), critical=0.5)
    assert 'class="number good">0.900' in report_page(figures(document(0.9)), critical=0.5)
