"""Error codes in words for people."""

import re
from pathlib import Path
from typing import get_args

import pytest

from services.common.download.errors import DownloadCode
from services.consumer.documents import LOOKS_LIKE_A_PAGE
from services.review.languages import load_languages
from services.review.reasons import REASONS, reason_for

PAGES = re.findall(r"^\| `([a-z_]+)` \|", Path("docs/pages.md").read_text(), re.MULTILINE)
IMAGES = ("image_too_large", "undecodable_image", "unsupported_media_type", LOOKS_LIKE_A_PAGE)


def test_all_failures_and_rejections_have_words() -> None:
    assert "no_lines" in PAGES
    assert {*get_args(DownloadCode), *PAGES, *IMAGES} <= REASONS.keys()


@pytest.mark.parametrize("code", [None, "", "not_known_yet"])
def test_unknown_code_is_shown_as_it_is(code: str | None) -> None:
    french = load_languages()[1]
    assert french.translate(reason_for(code)) == (code or "")
