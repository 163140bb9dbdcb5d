"""The loop of docs/training.md by its own commands, to a model that reads more, and killed."""

import json
import os
import random
import re
import signal
from asyncio.subprocess import Process
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from PIL import ImageOps

from services.common.domain.trained_models import CHECKPOINTS, LOOP, RECORD
from tests.support.images import draw_line, encode
from tests.support.pipeline import Client, Pipeline
from tests.support.terminal import ROOT, Terminal
from tests.support.tiny_trocr import need_trocr
from tests.support.waiting import eventually
from tests.support.web import WebSite

need_trocr()

COMMANDS = re.findall(r"```sh\n(.*?)\n```", (ROOT / "docs/training.md").read_text(), re.DOTALL)
LINES = 80
FEW = 20
SPLIT = "60/15/25"
"""Enough lines to learn from in few steps, and enough in ``test`` to tell models apart."""
TRAINING = "--epochs 2 --batch 4"
MODEL = "lines-1"


def documented(words: str) -> str:
    """Return the one command of the page with these words."""
    [command] = [each for each in COMMANDS if words in each]
    return str(command)


def write_list(site: WebSite, file: Path, count: int = LINES) -> list[str]:
    """Put mirrored numbers onto a web site and list them; return the URLs."""
    numbers = random.Random(count).sample(range(1_000_000), count)  # noqa: S311  no secret
    rows = {}
    for number in numbers:
        line = ImageOps.mirror(draw_line(f"{number:06}"))
        rows[site.add_body(f"/mirrored-{number}.png", encode(line))] = f"{number:06}"
    written = "".join(f"{url},{text}\n" for url, text in rows.items())
    file.write_text(f"url,annotation\n{written}")
    return list(rows)


async def test_model_trained_on_what_was_collected_reads_it_better(
    client: Client, pipeline: Pipeline, site: WebSite, tmp_path: Path
) -> None:
    # Threads that spin while they wait for each other take the processor from other tests
    terminal = Terminal(pipeline, tmp_path, {"OMP_NUM_THREADS": "1"})
    urls = write_list(site, tmp_path / "lines.csv")
    ours = {"sources.url": {"$in": urls}, "status": "predicted"}

    await client.database.images.delete_many({})  # else it would learn from other tests' lines
    async with pipeline.changed({"ocr-api": {"OCR_MODELS": str(tmp_path / ".models")}}):
        await terminal.type(documented("docreco submit"))
        await client.count_reaches(LINES, ours)
        before = await client.document(ours)
        exported = await terminal.type(f"{documented('docreco export')} --split {SPLIT}")
        trained = await terminal.type(f"{documented('docreco train')} {TRAINING}")
        terminal.variables |= {
            "NEW": trained["model_version"],
            "OLD": before["prediction"]["model_version"],
        }
        checked = await terminal.type(documented("docreco models check"))
        await terminal.type(documented("docreco models promote"))
        await eventually(lambda: is_served(pipeline, terminal.variables["NEW"]))
        await terminal.type(documented("docreco repredict"))
        # all of the pipeline's, so that none waits for an API that is gone
        await eventually(lambda: nothing_left(client, terminal.variables["NEW"]))
    compared = await terminal.type(f"{documented('docreco evaluate')} --split {SPLIT}")

    assert exported["images"] >= LINES
    assert trained["images"]["train"] == exported["splits"]["train"]
    assert_learnt(trained)
    assert checked["problems"] == []
    after = await client.document({"_id": before["_id"]})
    assert after["prediction"]["engine"] == "rapidocr"
    assert after["history"] == [before["prediction"]]
    assert after["annotation"] == before["annotation"]
    new, old = (compared["models"][terminal.variables[name]] for name in ("NEW", "OLD"))
    assert new["images"] == old["images"] > 0
    assert new["cer"]["value"] < old["cer"]["value"]
    assert compared["comparison"]["cer"]["p_value"] < 0.05
    assert terminal.variables["NEW"] in (tmp_path / "evaluation.html").read_text()


async def test_loop_that_is_killed_while_it_trains_goes_on(
    client: Client, pipeline: Pipeline, site: WebSite, tmp_path: Path
) -> None:
    terminal = Terminal(pipeline, tmp_path, {"OMP_NUM_THREADS": "1"})
    urls = write_list(site, tmp_path / "lines.csv", FEW)
    ours = {"sources.url": {"$in": urls}, "status": "predicted"}
    loop = documented("docreco loop").replace("--new 200", f"--new {FEW} --epochs 2")

    await client.database.images.delete_many({})
    await terminal.type(documented("docreco submit"))
    await client.count_reaches(FEW, ours)
    process = await terminal.start(loop)
    await eventually(partial(has_trained, tmp_path, process), seconds=300)
    os.killpg(process.pid, signal.SIGKILL)
    await process.communicate()
    assert steps_done(tmp_path) == ["export"]
    made, waits = await terminal.type(loop), await terminal.type(loop)

    assert made == outcome(tmp_path)
    assert waits == {"model": None, "annotations": FEW, "new": 0}


async def has_trained(folder: Path, process: Process) -> bool:
    """Whether a loop has trained for an epoch."""
    assert process.returncode is None, "the loop ended before it was killed"
    return any((folder / ".models" / CHECKPOINTS).glob("*.pt"))


def steps_done(folder: Path) -> list[str]:
    """Return the steps that a loop has ended."""
    state = folder / ".models" / LOOP
    done = json.loads(state.read_text())["round"]["done"] if state.exists() else []
    return list(map(str, done))


def outcome(folder: Path) -> dict[str, Any]:
    """Return what the loop says of its only model, which has the only export."""
    [record], [export] = folder.glob(f".models/loop-*/{RECORD}"), (folder / "sets").iterdir()
    assert export.name == record.parent.name
    problems = json.loads(record.read_text())["decision"]["problems"]
    return {"model": export.name, "annotations": FEW, "problems": problems}


async def is_served(pipeline: Pipeline, version: str) -> bool:
    """Whether the OCR API answers with this version."""
    async with ClientSession() as session, session.get(f"{pipeline.ocr_url}/readyz") as response:
        return bool((await response.json()).get("model_version") == version)


async def nothing_left(client: Client, version: str) -> bool:
    """Whether no image of the pipeline waits to be read by this version."""
    others = {"status": "predicted", "prediction.model_version": {"$ne": version}}
    return await client.database.images.count(others) == 0


def assert_learnt(trained: dict[str, Any]) -> None:
    """Lines that it has not learnt from are read far better than before."""
    change = trained["metrics"]["validation"]
    assert trained["model_version"].startswith(f"{MODEL}@")
    assert change["before"]["cer"] > 0.6
    assert change["after"]["cer"] < change["before"]["cer"] / 2
