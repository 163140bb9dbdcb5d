"""The image document and its rules for annotations and sources.

Each rule returns a new document, so that a writer that lost a compare-and-set decides again from
the new state (see ``adapters.image_repository``). Times are UTC; MongoDB stores milliseconds. The
rules for events are in ``services.consumer.documents``.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Generic, Literal, NamedTuple, Self, TypeVar, get_args

from pydantic import WithJsonSchema
from typing_extensions import override

from services.common.domain.annotation_history import Annotations
from services.common.domain.annotations import AnnotationOutcome, Replaces, how_given, is_same
from services.common.domain.double_reading import READ_TWICE, DoubleReading, is_chosen
from services.common.domain.page import PageOfLine
from services.common.domain.provenance import PLACEHOLDER_SOURCES, Provenance
from services.common.domain.records import (
    EMPTY_IF_NULL,
    Annotation,
    Confirmation,
    Prediction,
    required,
)
from services.common.domain.stored_object import Count, StoredObject

MOST_PREDICTIONS = 100
"""Limit of ``history``; ``history_count`` has none."""
SOURCES_DISAGREE = "sources_disagree"
"""``annotation_conflict`` of a placeholder whose lists' texts conflict."""
FORGOTTEN: Final = "forgotten"
"""Code of an item, event or document of a forgotten image."""

Status = Literal["predicted", "rejected", "removed"]
C = TypeVar("C")


class Decision(NamedTuple, Generic[C]):
    """A decision about a document."""

    code: C
    document: "ImageDocument"
    """The new state; unchanged, nothing is written."""


class ImageDocument(StoredObject):
    """One object of the bucket: a document of ``images``.

    ``ImageDocument.absent`` stands for a missing document; fields that were not projected have
    their defaults.
    """

    model_config = required(
        *("_id", "revision", "bucket", "key", "sources", "prediction", "annotation", "error"),
        *("status", "sequencer", "indexed_at"),
    )

    placeholder: bool = False
    """Whether very many URLs lead here, as to a logo or "photo unavailable"."""
    page: PageOfLine | None = None
    """Of a line: where on which page it was cut out."""
    annotation: Annotation | None = None
    annotation_history: Annotated[tuple[Annotation, ...], EMPTY_IF_NULL] = ()
    annotation_history_count: Count = 0
    annotation_conflict: str | None = None
    double_reading: DoubleReading | None = None
    """Readings of two people, if it has them."""
    prediction: Prediction | None = None
    history: Annotated[tuple[Prediction, ...], EMPTY_IF_NULL] = ()
    """Earlier predictions of the same bytes, oldest first, and readings by a candidate model."""
    history_count: Count = 0
    disagreement: float | None = None
    """Difference of the prediction and the last of ``history``, 0 to 1; None: equal."""
    status: Annotated[
        Status | None, WithJsonSchema({"type": "string", "enum": get_args(Status)})
    ] = None

    @property
    def annotations(self) -> Annotations:
        """The valid annotation and the earlier ones."""
        return Annotations(self.annotation, self.annotation_history)

    def reading_by(self, **values: object) -> Annotation | None:
        """Return the annotation or second reading that has these fields."""
        second = self.double_reading and self.double_reading.second
        said = (each for each in (self.annotation, second) if each)
        return next((each for each in said if each.matches(**values)), None)

    @property
    def is_undecided(self) -> bool:
        """Whether two people have read it differently, and a reviewer has to decide."""
        return self.double_reading is not None and self.double_reading.is_undecided

    @property
    def is_read_twice(self) -> bool:
        """Whether two people have read it: only a reviewer may change its text."""
        return self.double_reading is not None and self.double_reading.state in READ_TWICE

    def shown_to(self, person: str) -> Annotation | None:
        """Return the annotation, unless this person may still read the image without it."""
        double = self.double_reading
        return None if double is not None and double.waits_for(person) else self.annotation

    @property
    def readings(self) -> list[Prediction]:
        """The last prediction of each model version, the current one first."""
        latest = [*([self.prediction] if self.prediction else []), *reversed(self.history)]
        by_version = {each.model_version: each for each in reversed(latest)}
        return [each for each in latest if by_version[each.model_version] is each]

    @property
    def is_refused(self) -> bool:
        """Whether the object was deleted because the image is forgotten."""
        return self.error is not None and self.error.code == FORGOTTEN

    def ends_bytes(self, after: Self) -> bool:
        """Return whether a change removes the bytes of the annotations."""
        return self.exists and (after.sha256 != self.sha256 or after.status == "removed")

    def annotated(
        self,
        annotation: Annotation,
        *,
        overwrite: bool | Replaces = False,
        is_reviewer: bool = True,
        etag: str | None = None,
        shown: Sequence[str] | None = None,
    ) -> Decision[AnnotationOutcome]:
        """Decide about a person's annotation.

        Args:
            annotation: The new one; if it is confirmed and equals the current one, that one is
                confirmed.
            overwrite: Whether another person's annotation may be replaced, or which.
            is_reviewer: Whether the person may change what two people have read.
            etag: Of the bytes that the person saw, if known.
            shown: Predictions that the person was shown; None: unknown.
        """
        annotation = self._with_how(annotation, shown)
        is_other = etag is not None and self.etag != etag
        if not self.exists or self.status == "removed" or is_other:
            return Decision(AnnotationOutcome.UNKNOWN, self)
        current = self.annotation
        if current is not None:
            if is_same(current, annotation) and (is_reviewer or not self.is_undecided):
                return self._confirmed(current, annotation)
            is_kept = self.is_read_twice and not is_reviewer
            if is_kept or not (overwrite(current) if callable(overwrite) else overwrite):
                return Decision(AnnotationOutcome.CONFLICT, self)
        double = self.double_reading and self.double_reading.following(annotation)
        after = self._annotated(self.annotations.replaced_by(annotation), double)
        return Decision(AnnotationOutcome.WRITTEN, after)

    def answered(
        self,
        annotation: Annotation,
        *,
        share: float,
        etag: str | None = None,
        shown: Sequence[str] | None = None,
    ) -> Decision[AnnotationOutcome]:
        """Decide about the answer of a person who saw no annotation: a first or second reading.

        Of images a ``share`` is read by two people.
        """
        code, after = self.annotated(annotation, etag=etag, shown=shown)
        double, first = self.double_reading, after.annotation
        if code is AnnotationOutcome.WRITTEN and first and is_chosen(self.sha256, share):
            return Decision(code, after.having(double_reading=DoubleReading.begun(first)))
        if (
            double is None
            or code is AnnotationOutcome.UNKNOWN
            or not double.waits_for(annotation.by)
        ):
            return Decision(code, after)
        second = self._with_how(annotation, shown)
        return Decision(
            AnnotationOutcome.WRITTEN, self.having(double_reading=double.with_second(second))
        )

    def corrected(
        self,
        annotation: Annotation,
        *,
        is_reviewer: bool,
        overwrite: bool | Replaces = True,
        etag: str | None = None,
        shown: Sequence[str] | None = None,
    ) -> Decision[AnnotationOutcome]:
        """Decide about the annotation of a person who was shown what ``shown_to`` returns.

        It is a second reading where the image waits for this person's; a reviewer decides where two
        people differ. ``overwrite``: whether it replaces another annotation, or which.
        """
        current, double = self.annotation, self.double_reading
        if double is not None and double.waits_for(annotation.by):
            return self.answered(annotation, share=0, etag=etag, shown=shown)
        is_new = current is None or not is_same(current, annotation)
        if self.is_undecided or (self.is_read_twice and is_new):
            confirmed = Confirmation(by=annotation.by, at=annotation.at)
            annotation = annotation.having(confirmed=confirmed)
        return self.annotated(
            annotation, overwrite=overwrite, is_reviewer=is_reviewer, etag=etag, shown=shown
        )

    def reverted(self, now: datetime, **values: object) -> Decision[bool]:
        """Decide about reverting an annotation, or its confirmation, with these fields.

        False: the image has another one, or none.
        """
        current, double = self.annotation, self.double_reading
        if current is None:
            return Decision(False, self)
        decided = double.undecided() if double and double.decided else None
        if double is not None and decided is None and (second := double.second):
            undone = next((each for each in double.readings if each.matches(**values)), None)
            if undone is not None:
                left = current if undone is second else second
                earlier = (*self.annotation_history, undone.having(undone_at=now))
                after = self._annotated(Annotations(left, earlier), DoubleReading.begun(left))
                return Decision(True, after)
        if current.matches(**values):
            return Decision(True, self._annotated(self.annotations.reverted(now), decided))
        if current.confirmed is None or not current.confirmed.matches(**values):
            return Decision(False, self)
        annotations = self.annotations._replace(current=current.having(confirmed=None))
        return Decision(True, self._annotated(annotations, decided or double))

    def has_reverted(self, **values: object) -> bool:
        """Return whether an annotation with these fields was reverted."""
        return any(each.undone_at and each.matches(**values) for each in self.annotation_history)

    @override
    def with_source(self, provenance: Provenance, *, is_repeated: bool = False) -> Self:
        """Add a source, unless it is known; very many URLs make the image a placeholder."""
        after = super().with_source(provenance, is_repeated=is_repeated)
        is_new = after.sources_count > max(self.sources_count, len(self.sources))
        is_placeholder = bool(
            is_new and provenance.source_url and len(set(after.urls)) > PLACEHOLDER_SOURCES
        )
        return after.having(placeholder=True) if is_placeholder else after

    def of_page(self, page: PageOfLine | None) -> Self:
        """Set of which page it is a line, if it is one."""
        return self if page is None else self.having(page=page)

    def with_annotations(self, annotations: Annotations) -> Self:
        """Set annotations, and whether lists conflict about a placeholder's text."""
        is_disputed = self.placeholder and annotations.is_disputed
        conflict = SOURCES_DISAGREE if is_disputed else None
        is_kept = annotations.current == self.annotation
        double = self.double_reading if is_kept else annotations.double
        after = self._annotated(annotations, double)
        is_same = conflict == self.annotation_conflict
        return after if is_same else after.having(annotation_conflict=conflict)

    def with_earlier(self, prediction: Prediction) -> Self:
        """Add another reading to the history."""
        count = max(self.history_count, len(self.history)) + 1
        history = (*self.history, prediction)[-MOST_PREDICTIONS:]
        return self.having(history=history, history_count=count)

    def without_history(self) -> Self:
        """Erase the earlier predictions."""
        erased = {"history": (), "history_count": 0, "disagreement": None}
        return self.having(**erased) if self.history else self

    @override
    def without_details(self) -> Self:
        """Erase what sources, and the page it was cut from, say beside its origin."""
        after, page = super().without_details(), self.page
        if page is None or (page.text_layer is None and page.group is None):
            return after
        return after.having(page=page.having(text_layer=None, group=None))

    def without_annotations(self) -> Self:
        """Erase the annotation, the earlier ones, and what sources say beside their origin."""
        after = self._annotated(Annotations(None, self.annotation_history), None)
        after = after.without_details()
        if self.annotation_history:
            after = after.having(annotation_history=(), annotation_history_count=0)
        return after.having(annotation_conflict=None) if self.annotation_conflict else after

    def _confirmed(self, current: Annotation, same: Annotation) -> Decision[AnnotationOutcome]:
        """Decide about the annotation that is there: it may be confirmed, nothing else changes."""
        if same.confirmed is None or (current.confirmed is not None and not self.is_undecided):
            return Decision(AnnotationOutcome.UNCHANGED, self)
        annotations = self.annotations._replace(current=current.having(confirmed=same.confirmed))
        double = self.double_reading
        if double is not None and self.is_undecided:
            double = double.decided_by(same.by, same.at)
        return Decision(AnnotationOutcome.WRITTEN, self._annotated(annotations, double))

    def _with_how(self, annotation: Annotation, shown: Sequence[str] | None) -> Annotation:
        # The prediction may have changed since: then the one that they saw is in the history
        read = [*self.history, *([self.prediction] if self.prediction else [])]
        how = None if shown is None else how_given(annotation, shown, [each.text for each in read])
        return annotation.having(how=how) if how else annotation

    def _annotated(self, annotations: Annotations, double: DoubleReading | None) -> Self:
        after = self.having(annotation=annotations.current)
        if double != self.double_reading:
            after = after.having(double_reading=double)
        if annotations.earlier == self.annotation_history:
            return after
        dropped = max(0, self.annotation_history_count - len(self.annotation_history))
        return after.having(
            annotation_history=annotations.kept(),
            annotation_history_count=dropped + len(annotations.earlier),
        )
