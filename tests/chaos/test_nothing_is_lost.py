"""Images and pages enter while every program of the pipeline is killed, frozen and restarted.

``pytest tests/chaos`` runs the short form. ``--chaos=long`` runs the long one, which also kills
programs between two writes (see ``scenes``); ``--chaos=cuts`` runs little else. ``--chaos-seed``
decides the order, between which two writes of a sequence its program is killed, and on which pass.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest

from infra.local import supervisor
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Document
from services.common.adapters.object_store import sibling
from services.common.adapters.page_repository import PageRepository
from services.common.adapters.rabbitmq.retry_policy import OCR_QUEUES, PAGE_QUEUES
from services.common.domain.annotations import AnnotationOutcome, to_annotation
from services.common.domain.errors import DatabaseUnavailableError
from services.common.domain.page import PAGES_BUCKET
from services.reconciler.passes import make_pass
from services.reconciler.settings import ReconcilerSettings
from tests.chaos.faults import Fault, Kind, inflict, merge, schedule, wait_ready
from tests.chaos.invariant import check, explain
from tests.chaos.load import LINES_OF_PAGE, Load, bring_in, draw, draw_pages
from tests.chaos.scenes import FAST, LAST_SCENE, SCENES, Scene, prepare
from tests.chaos.stage import Stage, with_windows
from tests.support.pipeline import SITE_ADDRESS, Client, open_client, open_pipeline
from tests.support.waiting import eventually
from tests.support.web import open_site

pytestmark = pytest.mark.e2e


SEGMENTER_LIVES_SECONDS = 20.0


@dataclass(frozen=True)
class Form:
    """Amount of load."""

    images: int
    pages: int
    faults: int
    spread_seconds: float
    """Over which the images enter."""
    has_scenes: bool = False
    """Whether programs are killed between two writes as well."""


FORMS = {
    "short": Form(250, 10, 6, 30.0),
    "cuts": Form(100, 10, 0, 60.0, has_scenes=True),
    "long": Form(2000, 40, 18, 400.0, has_scenes=True),
}


@pytest.fixture
def programs_may_die_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "DEATHS_TO_GIVE_UP", 1000)


@pytest.mark.usefixtures("programs_may_die_often")
async def test_every_image_has_its_document_whatever_fails(
    tmp_path: Path, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    form = FORMS[pytestconfig.getoption("chaos")]
    seed = int(pytestconfig.getoption("chaos_seed"))
    drawn = draw(seed)
    loaded = list(islice(drawn, form.images))
    windows = tmp_path / "windows"
    windows.mkdir()
    async with (
        open_pipeline(tmp_path / "pipeline", change=with_windows(windows)) as pipeline,
        open_client(pipeline) as client,
        open_site(SITE_ADDRESS) as site,
    ):
        dice = Random(seed)  # noqa: S311  chosen to be repeatable
        stage = Stage(pipeline, client, site, windows, dice, drawn)
        log = Log()
        if form.has_scenes:
            await prepare(stage)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail(stage, form, seed, log))
            tasks.create_task(kill_segmenter(stage, form, seed, log))
            loading = bring_in(
                *(client, site, loaded, draw_pages(form.pages)),
                seed=seed,
                spread=form.spread_seconds,
            )
            load_task = tasks.create_task(loading)
        load = together(load_task.result(), stage)
        try:
            await wait_ready(pipeline)
            await batches_end(client, load)
        except TimeoutError:
            pytest.fail("\n".join([f"seed {seed}", *log.lines, await explain(pipeline, client)]))
        await documents_come(client, load)
        by_event = await client.database.images.count({})
        load = await reconcile(stage, load, form, log)
        report = await check(stage, load)
        report |= {
            "indexed by event": by_event,
            "queued by the reconciler": report["stored"] - by_event,
        }
    with capsys.disabled():
        print_report(seed, log, report)


@dataclass
class Log:
    """Faults of the programs, with times."""

    lines: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @contextmanager
    def entry(self, title: str) -> Iterator[None]:
        """Note a fault, and how long it took until its program was back."""
        at = time.monotonic() - self.began
        yield
        took = time.monotonic() - self.began - at
        self.lines.append(f"{at:6.1f} s  {title}, over after {took:.1f} s")


async def fail(stage: Stage, form: Form, seed: int, log: Log) -> None:
    """Let programs fail, one after the other."""
    steps: list[Fault | Scene] = list(schedule(seed, form.faults))
    if form.has_scenes:
        steps = merge(stage.dice, steps, *scenes_by_program(stage.dice))
    for step in steps:
        if isinstance(step, Scene):
            await wait_ready(stage.pipeline)
            await play(step, stage, log)
        else:
            await asyncio.sleep(step.pause_seconds)
            with log.entry(step.title):
                await inflict(step, stage.pipeline)


async def kill_segmenter(stage: Stage, form: Form, seed: int, log: Log) -> None:
    """Kill the segmenter every now and then, each time after a person annotated a line."""
    dice = Random(seed)  # noqa: S311  chosen to be repeatable
    for _ in range(round(form.spread_seconds / SEGMENTER_LIVES_SECONDS)):
        await asyncio.sleep(dice.uniform(0.2, 0.8) * SEGMENTER_LIVES_SECONDS)
        await annotate_line(stage)
        fault = Fault("segmenter", Kind.KILL, 0.0)
        with log.entry(fault.title):
            await inflict(fault, stage.pipeline)


async def annotate_line(stage: Stage) -> None:
    """Annotate a line of a page, asking again whenever MongoDB does not answer."""
    database, said = stage.client.database, to_annotation("a line of a page", by="anna")
    images = ImageRepository(database.images)
    chosen: list[Document] = []

    async def is_annotated() -> bool:
        with suppress(DatabaseUnavailableError):
            if not chosen:
                where = {"page": {"$ne": None}, "status": "predicted", "annotation": None}
                chosen.extend([line async for line in database.images.find(where, limit=1)])
            return bool(chosen) and await images.annotate(chosen[0]["_id"], said) in (
                AnnotationOutcome.WRITTEN,
                AnnotationOutcome.UNCHANGED,
            )
        return False

    await eventually(is_annotated, seconds=240)
    stage.annotations[chosen[0]["key"]] = "a line of a page"


def scenes_by_program(dice: Random) -> list[list[Scene]]:
    """Return all scenes by the program that is killed, each group in an order of its own."""
    programs = sorted({scene.program for scene in SCENES})
    groups = [[each for each in SCENES if each.program == program] for program in programs]
    return [dice.sample(group, len(group)) for group in groups]


async def play(scene: Scene, stage: Stage, log: Log) -> None:
    """Play a scene, in which a program is killed at one of its windows."""
    window, at = stage.dice.choice(scene.windows), stage.dice.randint(1, scene.most)
    with log.entry(f"killed ({at}): {window.value.title}"):
        await scene.play(stage, window, at)


async def reconcile(stage: Stage, load: Load, form: Form, log: Log) -> Load:
    """Have found what has no event, as MinIO, killed in a PUT, may keep it; return all there is."""
    if form.has_scenes:
        async with stage.pipeline.changed({"reconciler": FAST}):
            await play(LAST_SCENE, stage, log)
            load = together(load, stage)
            await documents_come(stage.client, load)
    else:
        store, database = stage.client.store, stage.client.database
        for bucket, documents, queues in (
            (store, ImageRepository(database.images), OCR_QUEUES),
            (sibling(store, PAGES_BUCKET), PageRepository(database.pages), PAGE_QUEUES),
        ):
            await make_pass(
                ReconcilerSettings(min_age_seconds=0),
                store=bucket,
                images=documents,
                amqp=stage.pipeline.amqp,
                queues=queues,
            )
        await documents_come(stage.client, load)
    return load


def together(load: Load, stage: Stage) -> Load:
    """Return what was brought in by the load and by the scenes."""
    images, urls = {**load.images, **stage.images}, {**load.urls, **stage.urls}
    return replace(load, images=images, urls=urls, batches=[*load.batches, *stage.batches])


async def batches_end(client: Client, load: Load) -> None:
    for batch in load.batches:
        counts = await client.completed(batch, seconds=240)
        assert counts["stored"] + counts["unchanged"] == sum(counts.values()), counts


async def documents_come(client: Client, load: Load) -> None:
    """Wait until no document is missing, or nothing more comes."""
    last, since = -1, time.monotonic()

    async def nothing_more() -> bool:
        nonlocal last, since
        now = await client.database.images.count({"status": "predicted"})
        if now != last:
            last, since = now, time.monotonic()
        expected = len(load.images) + LINES_OF_PAGE * len(load.pages)
        return now >= expected or time.monotonic() - since > 45

    await eventually(nothing_more, seconds=600)


def print_report(seed: int, log: Log, report: Mapping[str, Any]) -> None:
    lines = [
        f"chaos, seed {seed}",
        *log.lines,
        *(f"{name}: {value}" for name, value in report.items()),
    ]
    print("\n" + "\n".join(lines))  # noqa: T201  the figures are what this test is run for
