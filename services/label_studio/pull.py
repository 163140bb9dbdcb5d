"""Pull annotations from Label Studio.

Idempotent: the current state of each task is read, and unchanged annotations are not written again.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Database
from services.common.domain.annotations import AnnotationOutcome, UnacceptableAnnotationError
from services.common.domain.errors import DocumentRefusedError
from services.common.domain.records import Annotation
from services.label_studio import schemas
from services.label_studio.answers import from_label_studio, latest, replaces, shown_in
from services.label_studio.client import LabelStudio
from services.label_studio.errors import LabelStudioRefusedError
from services.label_studio.schemas import StudioTask, User

OVERLAP = timedelta(seconds=60)
"""Delay until a change appears in a listing."""
KEPT_REMARKS = 1000


class PullResult(StrEnum):
    """Result of pulling a task, beside the outcomes of annotations (``AnnotationOutcome``)."""

    WITHDRAWN = "withdrawn"
    """Deleted or skipped there: reverted here."""
    OPEN = "open"
    """Not annotated, or skipped by all."""
    REJECTED = "rejected"
    """The annotation is invalid."""
    FOREIGN = "foreign"
    """Not pushed by this project."""


@dataclass(frozen=True)
class Issue:
    """A message about a task."""

    task: int
    outcome: str
    image: str
    detail: str


@dataclass
class PullReport:
    """Report of a pull."""

    counts: Counter[str] = field(default_factory=Counter)
    """Number of tasks by result."""
    remarks: list[Issue] = field(default_factory=list)
    """The first ones, if there are very many."""

    def note(self, task: StudioTask, outcome: str, detail: str = "") -> None:
        """Count a task and its message."""
        self.counts[outcome] += 1
        if detail and len(self.remarks) < KEPT_REMARKS:
            self.remarks.append(Issue(task.id, outcome, task.text("image_id"), detail))


DETAILS: dict[str, str] = {
    AnnotationOutcome.CONFLICT: "the image has another annotation, which is kept",
    AnnotationOutcome.UNKNOWN: "the image does not exist, or was removed or replaced",
}


class _OvertakenError(Exception):
    """A listing is older than a state of the task that a webhook has already delivered."""


@dataclass
class Pull:
    """Reads one project.

    Args:
        studio: Source.
        database: Target.
        project: Its id.
        overwrite: Whether earlier annotations made here are replaced.
        is_dry_run: Report without writing.
        is_told: Whether a person sees the report; otherwise a run with messages does not count, so
            that the next one repeats them.
        on_progress: Called after each page.
    """

    studio: LabelStudio
    database: Database
    project: int
    overwrite: bool = False
    is_dry_run: bool = False
    is_told: bool = True
    on_progress: Callable[[PullReport], None] = lambda _: None
    _users: dict[int, User] | None = None

    async def changed(self, *, everything: bool = False) -> PullReport:
        """Pull the tasks that changed since the last run, or all.

        Raises:
            UnavailableError: A server does not answer; finished tasks remain.
            LabelStudioRefusedError: Label Studio refuses.
        """
        report, name = PullReport(), f"{self._site}{self.project}"
        state = await self.database.label_studio.find_one({"_id": name})
        since = None if everything or state is None else state["pulled_to"]
        begun = await self.studio.now()
        async for page in self.studio.tasks(self.project, fields="all", since=since):
            for task in page:
                if task is None:
                    report.counts[PullResult.FOREIGN] += 1
                else:
                    await self._take(task, report, is_listed=True)
            self.on_progress(report)
        is_done = self.is_told or not report.remarks
        if begun is not None and is_done and not self.is_dry_run:
            # The server's clock, which dates the tasks, before the first of them is read
            pulled = {"$set": {"pulled_to": begun - OVERLAP, "at": datetime.now(tz=UTC)}}
            await self.database.label_studio.update_one({"_id": name}, pulled, upsert=True)
        return report

    async def task(self, number: int) -> PullReport:
        """Pull one task; ignore missing ones and those of other projects.

        Raises:
            LabelStudioRefusedError: Label Studio refuses.
        """
        report = PullReport()
        task = await self.studio.task(number)
        if task is not None:
            await self._take(task, report)
        return report

    @property
    def _images(self) -> ImageRepository:
        return ImageRepository(self.database.images)

    @property
    def _site(self) -> str:
        return f"{self.studio.url}/projects/"

    async def _take(self, task: StudioTask, report: PullReport, *, is_listed: bool = False) -> None:
        image, etag = task.text("image_id"), task.text("etag")
        if task.project != self.project or not image or not etag:
            report.note(task, PullResult.FOREIGN)
            return
        origin = f"{self._site}{self.project}/data?task={task.id}"
        said = latest(task)
        if said is None and task.hides_some:
            report.note(task, PullResult.OPEN, "annotations are not visible for this account")
            return
        outcome: AnnotationOutcome | PullResult
        try:
            if said is None:
                outcome = await self._withdraw(image, origin, is_listed=is_listed)
            else:
                annotation = from_label_studio(said, await self._name(said), origin)
                outcome = await self._write(task, annotation, is_listed=is_listed)
        except _OvertakenError:
            await self._take_again(task, report)
        except (UnacceptableAnnotationError, DocumentRefusedError) as error:
            report.note(task, PullResult.REJECTED, str(error))
        else:
            report.note(task, outcome, DETAILS.get(outcome, ""))

    async def _take_again(self, listed: StudioTask, report: PullReport) -> None:
        task = await self.studio.task(listed.id)
        if task is None:
            report.note(listed, PullResult.OPEN)
        else:
            await self._take(task, report)

    async def _write(
        self, task: StudioTask, annotation: Annotation, *, is_listed: bool
    ) -> AnnotationOutcome:
        image = task.text("image_id")
        may_replace = replaces(
            annotation, self._site, overwrite=self.overwrite, is_listed=is_listed
        )
        outcome = await self._images.annotate(
            image,
            annotation,
            overwrite=may_replace,
            dry_run=self.is_dry_run,
            etag=task.text("etag"),
            shown=shown_in(task),
        )
        is_conflict = is_listed and outcome is AnnotationOutcome.CONFLICT
        if is_conflict and await self._is_source_of(image, annotation.origin):
            raise _OvertakenError
        return outcome

    async def _withdraw(self, image: str, origin: str, *, is_listed: bool) -> PullResult:
        if not await self._is_source_of(image, origin):
            return PullResult.OPEN
        if is_listed:
            raise _OvertakenError
        while not self.is_dry_run and await self._images.revert(image, origin=origin):
            pass  # also earlier annotations of the same task
        return PullResult.WITHDRAWN

    async def _is_source_of(self, image: str, origin: str) -> bool:
        """Whether an image's annotation comes from this task."""
        annotation = (await self._images.load(image)).annotation
        return annotation is not None and annotation.origin == origin

    async def _name(self, said: schemas.StudioAnnotation) -> str:
        """Return the author; a listing has only the id."""
        who = said.completed_by
        if isinstance(who, User):
            return who.name
        if who is None:
            return "unknown"
        if self._users is None:
            try:
                self._users = await self.studio.users()
            except LabelStudioRefusedError:
                self._users = {}  # the account may not list others
        return self._users.get(who, User(id=who)).name
