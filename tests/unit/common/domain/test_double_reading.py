"""Two people read an image: what becomes of both readings, and how well they agree."""

from functools import partial
from typing import Any, cast

import pytest

from services.common.adapters.image_repository import ImageRepository, to_query
from services.common.adapters.page_repository import ReadLine
from services.common.domain.annotations import AnnotationOutcome, to_annotation
from services.common.domain.double_reading import DoubleState, is_chosen
from services.common.domain.image import ImageDocument
from services.common.domain.labels import Exclusion, Label, label_of
from services.common.domain.page import Line
from services.common.domain.records import Annotation, Confirmation
from services.datasets.copies import decide
from services.quality.agreement import Agreements
from services.quality.annotated import AnnotatedImage
from services.quality.suspects import Norms, Reason
from services.review.leases import Leases
from services.review.page_views import LineView
from services.review.queue import Queue
from services.review.queue_filter import Mode, QueueFilter, of_second_reader, where
from services.review.refreshed_answer import RefreshedAnswer
from services.review.sessions import Session
from services.review.suspects import SuspectList, suggest
from tests.factories import NOW, document, prediction

LINES = 2000


def said(text: str, by: str) -> Annotation:
    return to_annotation(text, by=by, at=NOW)


def read(*readings: Annotation, share: float = 1.0) -> ImageDocument:
    image = document(prediction=prediction("l'ete"), sha256="ab" * 32)
    for each in readings:
        image = image.answered(each, share=share).document
    return image


def state(image: ImageDocument) -> Any:
    return image.double_reading and image.double_reading.state


def label(image: ImageDocument, **changes: Any) -> Label | Exclusion:
    return label_of(image, only_annotated=True, min_agreement=1, **changes)


ADA, BOB, EVE = said("l'été", "ada"), said("l'ete", "bob"), said("l'étè", "eve")


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_share_is_chosen_by_hash_alone(share: float) -> None:
    chosen = [number for number in range(LINES) if is_chosen(f"{number:064x}", share)]
    assert len(chosen) / LINES == pytest.approx(share, abs=0.03)
    assert all(is_chosen(f"{number:064x}", share) for number in chosen)


@pytest.mark.parametrize(
    ("readings", "share", "expected"),
    [
        ([ADA], 0.0, None),
        ([ADA], 1.0, DoubleState.WAITING),
        ([ADA, said("  l'e\u0301te\u0301 ", "bob")], 1.0, DoubleState.AGREED),
        ([ADA, BOB], 1.0, DoubleState.DIFFERENT),
        ([ADA, to_annotation("", "unreadable", by="bob")], 1.0, DoubleState.DIFFERENT),
        ([ADA, said("l'ete", "ada")], 1.0, DoubleState.WAITING),
        ([ADA, BOB, EVE], 1.0, DoubleState.DIFFERENT),
    ],
)
def test_second_reading_is_compared(
    readings: list[Annotation], share: float, expected: DoubleState | None
) -> None:
    image = read(*readings, share=share)
    assert state(image) is expected
    assert image.annotation == ADA


def test_text_is_a_label_once_it_is_agreed_or_decided() -> None:
    alone, different = read(ADA), read(ADA, BOB)
    agreed = read(ADA, said("l'été", "bob"))
    decided = different.annotated(EVE, overwrite=True).document
    assert label(different) is Exclusion.ANNOTATORS_DIFFER
    assert [getattr(label(each), "text", None) for each in (alone, agreed, decided)] == [
        *("l'été", "l'été", "l'étè")
    ]
    assert [label(each, only_agreed=True) for each in (alone, read(ADA, share=0), different)] == [
        *(Exclusion.NOT_AGREED, Exclusion.NOT_AGREED, Exclusion.ANNOTATORS_DIFFER)
    ]
    assert isinstance(label(agreed, only_agreed=True), Label)
    assert isinstance(label(decided, only_agreed=True), Label)


def test_reviewer_decides_and_takes_it_back() -> None:
    different = read(ADA, BOB)
    assert Reason.ANNOTATORS_DIFFER in Norms().reasons(different)
    choice = ADA.having(by="eve", confirmed=Confirmation(by="eve", at=NOW))
    chosen = different.annotated(choice).document
    kept = different.corrected(said("l'été", "eve"), is_reviewer=True).document
    written = different.corrected(EVE, is_reviewer=True).document
    for decided in (chosen, kept, written):
        assert decided.double_reading is not None
        assert (decided.double_reading.state, decided.double_reading.decided) == (
            DoubleState.DECIDED,
            Confirmation(by="eve", at=NOW),
        )
        assert decided.double_reading.readings == (ADA, BOB)
        assert not Norms().reasons(decided)
        code, undone = decided.reverted(NOW, by="eve", at=NOW)
        assert (code, state(undone)) == (True, DoubleState.DIFFERENT)
        assert undone.annotation is not None
        assert (undone.annotation.text, undone.annotation.by) == ("l'été", "ada")


@pytest.mark.parametrize(("by", "left"), [("ada", BOB), ("bob", ADA)])
def test_reading_that_is_taken_back_leaves_the_other(by: str, left: Annotation) -> None:
    code, after = read(ADA, BOB).reverted(NOW, by=by, at=NOW)
    assert (code, state(after), after.annotation) == (True, DoubleState.WAITING, left)
    assert [(each.by, each.undone_at) for each in after.annotation_history] == [(by, NOW)]
    assert after.has_reverted(by=by, at=NOW)
    assert state(after.answered(ADA if by == "ada" else BOB, share=1).document) is state(
        read(ADA, BOB)
    )


def test_first_reading_that_is_taken_back_alone_leaves_nothing() -> None:
    after = read(ADA).reverted(NOW, by="ada", at=NOW).document
    assert (after.annotation, after.double_reading) == (None, None)
    assert read(ADA, BOB).without_annotations().double_reading is None


def test_page_shows_no_text_that_a_second_person_must_not_see() -> None:
    line = Line(id="1", key="a.png", quad=(0, 0, 9, 0, 9, 9, 0, 9), order=0)
    shown = ((read(ADA), "bob"), (read(ADA), "ada"), (read(ADA, BOB), "eve"))
    texts = [LineView(1, ReadLine(line, each), person).text for each, person in shown]
    assert texts == ["l'ete", "l'été", "l'été"]


def test_correction_by_a_blind_annotator_is_a_second_reading() -> None:
    code, after = read(ADA).corrected(BOB, is_reviewer=False)
    assert (code, after) == (AnnotationOutcome.WRITTEN, read(ADA, BOB))
    mended = said("l'étè", "ada")
    own = read(ADA).corrected(mended, is_reviewer=False).document
    assert (own.annotation, state(own)) == (mended, DoubleState.WAITING)


@pytest.mark.parametrize("second", [said("l'été", "bob"), BOB])
def test_only_a_reviewer_changes_what_was_read_twice(second: Annotation) -> None:
    twice = read(ADA, second)
    confirmed = ADA.having(by="bob", confirmed=Confirmation(by="bob", at=NOW))
    decided = twice.corrected(EVE, is_reviewer=True).document
    assert state(decided) is DoubleState.DECIDED
    for image in (twice, decided):
        assert image.corrected(said("x", "bob"), is_reviewer=False) == (
            AnnotationOutcome.CONFLICT,
            image,
        )
    code, after = twice.annotated(confirmed, overwrite=True, is_reviewer=False)
    assert state(after) is state(twice)
    assert code is (AnnotationOutcome.CONFLICT if twice.is_undecided else AnnotationOutcome.WRITTEN)


def test_undecided_copy_excludes_equal_bytes_until_decided() -> None:
    alone, different = document(annotation=EVE, prediction=prediction("l'ete")), read(ADA, BOB)
    decided = different.corrected(EVE, is_reviewer=True).document

    def outcome(*copies: ImageDocument) -> Any:
        return decide(copies, only_annotated=True, min_agreement=1)

    assert outcome(alone, different) is Exclusion.ANNOTATORS_DIFFER
    assert AnnotatedImage.of([alone, different]).reference is None
    assert outcome(different, decided)[1].text == "l'étè"
    assert AnnotatedImage.of([different, decided]).reference == "l'étè"


def test_queue_asks_for_read_images_alone() -> None:
    filters = (of_second_reader(QueueFilter(), "bob"), where(QueueFilter(Mode.DECIDE)))
    assert [to_query(each)["status"] for each in filters] == ["predicted", "predicted"]


class Desk:
    """Leases, images and suspects of a queue with one image, which notes what is discarded."""

    def __init__(self, image: ImageDocument) -> None:
        self.image = image
        self.discarded: list[str] = []

    async def take(self, *_: str) -> bool:
        return True

    async def release(self, *_: str) -> None: ...

    async def taken(self, _: str) -> set[str]:
        return set()

    async def get(self, _: str) -> ImageDocument:
        return self.image

    def ids(self, *_: Any) -> list[str]:
        return [self.image.id]

    def reasons(self, image: ImageDocument) -> list[Reason]:
        return Norms().reasons(image)

    def discard(self, image: str) -> None:
        self.discarded.append(image)


@pytest.mark.parametrize(
    ("image", "is_discarded"), [(read(ADA, BOB), False), (read(ADA, ADA.having(by="bob")), True)]
)
async def test_suspect_that_is_not_for_this_person_stays_for_others(
    image: ImageDocument,
    is_discarded: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    desk = Desk(image)
    fakes = cast("ImageRepository", desk), cast("Leases", desk), cast("SuspectList", desk)
    suggestions = RefreshedAnswer(partial(suggest, fakes[0]))
    queue = Queue(*fakes, suggestions, reviewers=frozenset({"eve"}))
    task = await queue.task(Session("s1", "bob", 9e9), QueueFilter(Mode.SUSPECTS))
    assert (task.now, bool(desk.discarded)) == (None, is_discarded)


def test_agreement_is_counted_by_person_pair_and_collection() -> None:
    agreements = Agreements()
    letters = [{"collection": "letters"}]
    agreements.add(
        read(ADA, said("l'été", "bob")).having(sources=document(sources=letters).sources)
    )
    agreements.add(read(ADA, BOB))
    agreements.add(read(EVE, to_annotation("", "unreadable", by="ada")))
    agreements.add(read(ADA))

    found = {words: (each.images, each.exact, each.undecided) for words, each in agreements.rows}

    assert found == {
        "all": (3, 1, 2),
        "annotator ada": (3, 1, 2),
        "annotator bob": (2, 1, 1),
        "annotator eve": (1, 0, 1),
        "pair ada and bob": (2, 1, 1),
        "pair ada and eve": (1, 0, 1),
        "collection letters": (1, 1, 0),
    }
    assert agreements.total.character_agreement == pytest.approx(1 - (0 + 2 + 5) / 15)
