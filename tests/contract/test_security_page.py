"""The page about security names tests and pages that are there."""

import re

from tests.support.compose import ROOT

PAGE = (ROOT / "docs/security.md").read_text()


def test_every_fault_names_a_test_or_a_decision_that_exists() -> None:
    rows = re.findall(r"^\| [\w ]+ \| .+ \| (.+) \|$", PAGE.partition("## Faults")[2], re.MULTILINE)
    answers = rows[1:]

    assert answers
    for answer in answers:
        tests = re.findall(r"`([\w/]+/test_\w+\.py)`", answer)
        pages = re.findall(r"\]\(([\w/.-]+\.md)\)", answer)
        assert tests or pages, answer
        missing = [each for each in tests if not (ROOT / "tests" / each).exists()]
        missing += [each for each in pages if not (ROOT / "docs" / each).exists()]
        assert missing == [], answer
