"""Cards of the gallery, rendered without servers."""

import re
from typing import Any

import pytest

from services.common.domain.image import ImageDocument
from services.review.found_page import FoundPage
from services.review.gallery import Filters
from services.review.sessions import Sessions
from services.review.templating import Templates
from tests.factories import document, prediction


def cards(*documents: ImageDocument) -> str:
    page = FoundPage(list(documents), next=None, is_cut=False)
    shown: dict[str, Any] = {"filters": Filters(), "choices": {}, "suggested": {}, "names": {}}
    answer = Templates(Sessions(None, seconds=1)).render("gallery", None, page=page, **shown)
    return bytes(answer.body).decode().partition('class="cards"')[2]


@pytest.mark.parametrize(
    ("model_version", "caption"),
    [("v1+cal-01234567", "score 0.900"), ("v1", "score 0.900, not calibrated")],
)
def test_caption_says_whether_the_score_is_calibrated(model_version: str, caption: str) -> None:
    read = prediction(model_version=model_version)

    shown = cards(document(prediction=read.to_mongo()))

    assert re.findall(r"score [^<\n]*", shown) == [caption]
