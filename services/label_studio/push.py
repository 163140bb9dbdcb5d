"""Push images to Label Studio: the lowest scores first, and only new or changed ones.

The existing tasks are read from Label Studio; no state is stored here.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import StrEnum

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.keyset import by_score, paginate
from services.common.adapters.object_store import ObjectStore
from services.common.domain.errors import ObjectNotFoundError
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import NO_LIMITS, ImageFilter, Limits
from services.common.domain.normal_form import is_shown_alike
from services.common.domain.objects import ObjectTooLargeError
from services.common.domain.pieces import in_pieces
from services.common.domain.sizes import MAX_OBJECT_BYTES
from services.label_studio.client import LabelStudio
from services.label_studio.schemas import StudioTask
from services.label_studio.tasks import TaskAddresses, pushed, to_data, to_prediction, to_task

AT_ONCE = 100
"""Tasks per request, and documents per query."""
READ_AT_ONCE = 8
"""Images whose files are checked concurrently."""
FIELDS = dict.fromkeys(("key", "etag", "sources", "prediction"), 1)
"""Fields of a document that its task needs."""


class SyncAction(StrEnum):
    """Action on a task, or on an image without one."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    """Delete: its image was removed or replaced, or has another task."""
    UNCHANGED = "unchanged"
    ANNOTATED = "annotated"
    """The image is annotated: nothing to push."""
    FOREIGN = "foreign"
    """Not pushed by this project; ignored."""
    NOT_SHOWN = "not_shown"
    """No task: browsers show other pixels than the OCR API reads, or none."""


@dataclass
class PushReport:
    """Report of a push."""

    counts: Counter[SyncAction] = field(default_factory=Counter)
    open_tasks: int = 0
    """Tasks of images without annotation."""


@dataclass(frozen=True)
class Push:
    """Synchronises one project.

    Args:
        studio: Target.
        images: Source.
        addresses: URLs of images for browsers.
        store: The bucket of images, as reached from here.
        limits: Which images get tasks.
        is_dry_run: Report without writing.
        on_progress: Called after each step.
    """

    studio: LabelStudio
    images: ImageRepository
    addresses: TaskAddresses
    store: ObjectStore
    limits: Limits = NO_LIMITS
    is_dry_run: bool = False
    on_progress: Callable[[PushReport], None] = lambda _: None

    async def run(self, project: int | None, *, limit: int) -> PushReport:
        """Update, delete and add tasks.

        Args:
            project: Its id; None: not created yet, so without tasks.
            limit: Number of open tasks in the project.

        Raises:
            UnavailableError: A server is missing; what was done is done.
            LabelStudioRefusedError: Label Studio refuses.
        """
        report, there = PushReport(), set[str]()
        listed = {} if project is None else await self._listed(project, report)
        for images in in_pieces(listed, AT_ONCE):
            there |= await self._bring_up_to_date({each: listed[each] for each in images}, report)
            self.on_progress(report)
        async for documents in self._missing(there, limit - report.open_tasks, report):
            if project is not None and not self.is_dry_run:
                kind = self.addresses.kind
                tasks = [to_task(each, await self.addresses.of(each), kind) for each in documents]
                await self.studio.import_tasks(project, tasks)
            report.counts[SyncAction.CREATED] += len(documents)
            report.open_tasks += len(documents)
            self.on_progress(report)
        return report

    async def _listed(self, project: int, report: PushReport) -> dict[str, list[StudioTask]]:
        """Return all own tasks by image, those with annotations first."""
        listed: dict[str, list[StudioTask]] = {}
        async for page in self.studio.tasks(project, fields="task_only"):
            for task in page:
                if task is None or not (task.text("image_id") and task.text("pushed")):
                    report.counts[SyncAction.FOREIGN] += 1
                else:
                    listed.setdefault(task.text("image_id"), []).append(task)
        for tasks in listed.values():
            tasks.sort(key=lambda each: (not each.total_annotations, each.id))
        return listed

    async def _bring_up_to_date(
        self, listed: dict[str, list[StudioTask]], report: PushReport
    ) -> set[str]:
        """Return the images that have a task afterwards."""
        kept: set[str] = set()
        found = self.images.find(ImageFilter(ids=frozenset(listed)))
        documents = {document.id: document async for document in found}
        for image, tasks in listed.items():
            for task in tasks:
                action = self._action(task, documents.get(image), is_second=image in kept)
                if action is SyncAction.UPDATED and not await self._is_shown(documents[image]):
                    action = SyncAction.DELETED
                if action is SyncAction.DELETED and _is_of(documents.get(image), task):
                    action = await self._action_of_second(task)
                if not self.is_dry_run:
                    await self._settle(task, documents.get(image), action)
                report.counts[action] += 1
                if action is not SyncAction.DELETED:
                    kept.add(image)
                    report.open_tasks += action in {SyncAction.UNCHANGED, SyncAction.UPDATED}
        return kept

    def _action(
        self, task: StudioTask, document: ImageDocument | None, *, is_second: bool
    ) -> SyncAction:
        if document is None:
            return SyncAction.FOREIGN
        if not _is_of(document, task):
            return SyncAction.DELETED
        if task.total_annotations:
            return SyncAction.ANNOTATED
        if is_second:
            return SyncAction.DELETED
        if document.annotation is not None:
            return SyncAction.ANNOTATED
        is_same = task.text("pushed") == pushed(document, self.addresses.kind)
        is_fresh = self.addresses.is_fresh(task.text("valid_until"))
        return SyncAction.UNCHANGED if is_same and is_fresh else SyncAction.UPDATED

    async def _action_of_second(self, task: StudioTask) -> SyncAction:
        """Read the task again: a long listing is outdated, and new annotations would be lost."""
        now = await self.studio.task(task.id)
        is_annotated = now is not None and (now.total_annotations or now.annotations)
        return SyncAction.ANNOTATED if is_annotated else SyncAction.DELETED

    async def _settle(
        self, task: StudioTask, document: ImageDocument | None, action: SyncAction
    ) -> None:
        if action is SyncAction.DELETED:
            await self.studio.delete_task(task.id)
        if action is SyncAction.UPDATED and document is not None:
            await self._update(task, document)

    async def _update(self, task: StudioTask, document: ImageDocument) -> None:
        """Write the prediction, then the data, which marks the task as complete."""
        kind = self.addresses.kind
        if task.text("pushed") != pushed(document, kind):
            prediction = to_prediction(document)
            there = {each.model_version: each.id for each in await self.studio.predictions(task.id)}
            number = there.get(prediction["model_version"])
            if number is None:
                await self.studio.create_prediction(task.id, prediction)
            else:
                await self.studio.update_prediction(number, prediction)
        data = to_data(document, await self.addresses.of(document), kind)
        await self.studio.update_task(task.id, data)

    async def _missing(
        self, there: set[str], count: int, report: PushReport
    ) -> AsyncIterator[list[ImageDocument]]:
        """Yield images without annotation and task, the lowest score first."""
        if count <= 0:
            return
        chunk: list[ImageDocument] = []
        async for document in self._candidates(there, report):
            chunk.append(document)
            if len(chunk) == min(AT_ONCE, count):
                yield chunk
                chunk, count = [], count - len(chunk)
                if count == 0:
                    return
        if chunk:
            yield chunk

    async def _candidates(
        self, there: set[str], report: PushReport
    ) -> AsyncIterator[ImageDocument]:
        wanted = ImageFilter(
            self.limits, bucket=self.store.bucket, status=("predicted",), annotated=False
        )
        async for page in paginate(self.images, wanted, by_score(), fields=FIELDS):
            without = (each for each in page.documents if each.id not in there)
            for group in in_pieces(without, READ_AT_ONCE):
                shown = await asyncio.gather(*map(self._is_shown, group))
                for document, is_shown in zip(group, shown, strict=True):
                    if is_shown:
                        yield document
                    else:
                        report.counts[SyncAction.NOT_SHOWN] += 1

    async def _is_shown(self, document: ImageDocument) -> bool:
        """Whether browsers show an image's file with the pixels that the OCR API reads."""
        try:
            stored = await self.store.read(document.key, max_bytes=MAX_OBJECT_BYTES)
            return await asyncio.to_thread(is_shown_alike, stored.content)
        except ObjectNotFoundError:
            return True  # removed just now: the next push deletes its task
        except ObjectTooLargeError:
            return False


def _is_of(document: ImageDocument | None, task: StudioTask) -> bool:
    """Whether an image exists with the bytes of a task."""
    if document is None or document.status != "predicted":
        return False
    return document.etag == task.text("etag")
