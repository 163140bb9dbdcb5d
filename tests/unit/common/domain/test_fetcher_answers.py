"""Answers of a fetcher of another version, as its clients take them."""

from dataclasses import fields

from services.common.domain.fetcher_answers import BatchDetails, ItemStatus, ListRequest
from services.fetcher.list_parameters import ListParameters


def test_client_takes_what_a_newer_fetcher_adds() -> None:
    counts = {"queued": 1, "failed": 2, "postponed": 3}
    answer = {"batch_id": "b", "state": "postponed", "counts": counts, "priority": 1}
    batch = BatchDetails.model_validate(answer)
    assert (batch.total, batch.done, batch.is_finished) == (6, 5, True)
    assert batch.model_dump(exclude_unset=True) == answer
    assert ItemStatus.model_validate({"url": "u", "outcome": "postponed"}).outcome == "postponed"


def test_client_takes_what_an_older_fetcher_does_not_say() -> None:
    batch = BatchDetails.model_validate({"batch_id": "b", "state": "running", "counts": {}})
    assert (batch.total, batch.is_finished, batch.reading, batch.created_at) == (
        0,
        False,
        None,
        None,
    )


def test_client_has_every_parameter_of_a_submission() -> None:
    assert {each.name for each in fields(ListRequest)} == ListParameters.model_fields.keys()
