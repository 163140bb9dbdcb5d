"""Metadata of lines: whatever names a page has, they are within the limit of S3."""

from dataclasses import replace

import pytest

from services.common.domain.details import Details
from services.common.domain.page import Line, page_from_metadata
from services.common.domain.provenance import Provenance, from_metadata, size_of
from services.segmenter.provenance import (
    KeyTooLongError,
    check_key,
    group_of,
    line_metadata,
    rendered_key,
    rendered_metadata,
)
from tests.factories import NOW, event

LINE = Line(
    id="a" * 16,
    quad=(16383,) * 8,
    order=1999,
    score=0.1234,
    run="b" * 16,
    by="д" * 33,
    replaces=tuple(f"{number:016}" for number in range(12)),
)
SUBMITTED = Provenance(
    batch_id="20261128T095906435371-9cd1a3a7f3f2",
    fetched_at=NOW.replace(microsecond=123456),
    collection="архив",
    by="ada",
)
TEXT = "д" * 60


def test_line_of_a_long_named_document_leaves_out_details() -> None:
    key = f"{'д' * 160}.pdf"
    document = event(key=key, bucket="pages")
    check_key(document.document_id, group_of(document, SUBMITTED))
    metadata = rendered_metadata(document, SUBMITTED, 500)
    page = event(key=rendered_key("f" * 64, 500), bucket="pages", metadata=metadata)

    made = dict(line_metadata(LINE, page, SUBMITTED, (16383, 16383), text=TEXT))

    assert size_of(made) <= 2048
    known = page_from_metadata(made)
    assert known is not None
    assert (known.id, known.group) == (page.document_id, f"pages/{key}")
    assert (known.text_layer, known.replaces) == (TEXT, None)
    assert from_metadata(made).batch_id == SUBMITTED.batch_id


def test_page_with_a_key_too_long_for_its_lines_is_refused() -> None:
    page = event(key=f"{'д' * 100}.png", bucket="pages")
    longest = replace(SUBMITTED, details=Details(group="д" * 164))
    check_key(page.document_id, group_of(page, longest))

    assert size_of(line_metadata(LINE, page, longest, (16383, 16383))) <= 2048
    longer = replace(SUBMITTED, details=Details(group="д" * 170))
    with pytest.raises(KeyTooLongError):
        check_key(page.document_id, group_of(page, longer))
