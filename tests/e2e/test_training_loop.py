"""The loop of docs/training.md, by its own commands, to a model that reads more than the first."""

import asyncio
import json
import random
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from PIL import ImageOps

from infra.local.settings import child_environment
from tests.support.images import draw_line, encode
from tests.support.pipeline import Client, Pipeline
from tests.support.tiny_trocr import need_trocr
from tests.support.waiting import eventually
from tests.support.web import WebSite

pytestmark = pytest.mark.e2e
need_trocr()

ROOT = Path(__file__).parents[2]
COMMANDS = re.findall(r"```sh\n(.*?)\n```", (ROOT / "docs/training.md").read_text(), re.DOTALL)
LINES = 120
MODEL = "lines-1"


@dataclass
class Person:
    """Types the page's commands into a shell, in a folder of their own."""

    pipeline: Pipeline
    folder: Path
    variables: dict[str, str]

    async def types(self, command: str) -> dict[str, Any]:
        """Run a command; return its answer for machines."""
        docreco = Path(sys.executable).with_name("docreco")
        typed = command.replace("poetry run docreco", str(docreco))
        environment = {
            **self.pipeline.addresses.environment(),
            **self.variables,
            "DOCRECO_FETCHER_URL": self.pipeline.fetcher_url,
            "HF_HOME": str(self.folder / "hugging-face"),
            "PYTHONPATH": str(ROOT),
        }
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", f"{typed} --json"),
            cwd=self.folder,
            env=child_environment(environment),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(300):
            answer, asides = await process.communicate()
        assert process.returncode == 0, asides.decode()
        told: dict[str, Any] = json.loads(answer)
        return told


def documented(words: str) -> str:
    """Return the one command of the page with these words."""
    [command] = [each for each in COMMANDS if words in each]
    return str(command)


def write_list(site: WebSite, file: Path) -> list[str]:
    """Put mirrored numbers onto a web site and list them; return the URLs."""
    numbers = random.Random(9).sample(range(10_000), LINES)  # noqa: S311  no secret
    rows = {}
    for number in numbers:
        line = ImageOps.mirror(draw_line(f"{number:04}"))
        rows[site.add_body(f"/mirrored-{number}.png", encode(line))] = f"{number:04}"
    written = "".join(f"{url},{text}\n" for url, text in rows.items())
    file.write_text(f"url,annotation\n{written}")
    return list(rows)


async def test_model_trained_on_what_was_collected_reads_it_better(
    client: Client, pipeline: Pipeline, site: WebSite, tmp_path: Path
) -> None:
    person = Person(pipeline, tmp_path, {})
    urls = write_list(site, tmp_path / "lines.csv")
    ours = {"sources.url": {"$in": urls}, "status": "predicted"}

    await client.index.images.delete_many({})  # else it would learn from other tests' lines
    async with pipeline.changed({"ocr-api": {"OCR_MODELS": str(tmp_path / ".models")}}):
        await person.types(documented("docreco submit"))
        await client.count_reaches(LINES, ours, seconds=120)
        before = await client.document(ours)
        exported = await person.types(documented("docreco export"))
        trained = await person.types(documented("docreco train"))
        person.variables |= {
            "NEW": trained["model_version"],
            "OLD": before["prediction"]["model_version"],
        }
        await person.types(documented("docreco models promote"))
        await eventually(lambda: is_served(pipeline, person.variables["NEW"]), seconds=60)
        await person.types(documented("docreco repredict"))
        # all of the pipeline's, so that none waits for an API that is gone
        await eventually(lambda: nothing_left(client, person.variables["NEW"]), seconds=120)
    compared = await person.types(documented("docreco evaluate"))

    assert exported["images"] >= LINES
    assert trained["images"]["train"] == exported["splits"]["train"]
    assert_learnt(trained)
    after = await client.document({"_id": before["_id"]})
    assert after["prediction"]["engine"] == "rapidocr"
    assert after["history"] == [before["prediction"]]
    assert after["annotation"] == before["annotation"]
    new, old = (compared["models"][person.variables[name]] for name in ("NEW", "OLD"))
    assert new["images"] == old["images"] > 0
    assert new["cer"]["value"] < old["cer"]["value"]
    assert compared["comparison"]["cer"]["p_value"] < 0.05
    assert person.variables["NEW"] in (tmp_path / "evaluation.html").read_text()


async def is_served(pipeline: Pipeline, version: str) -> bool:
    """Whether the OCR API answers with this version."""
    async with ClientSession() as session, session.get(f"{pipeline.ocr_url}/readyz") as response:
        return bool((await response.json()).get("model_version") == version)


async def nothing_left(client: Client, version: str) -> bool:
    """Whether no image of the pipeline waits to be read by this version."""
    others = {"status": "predicted", "prediction.model_version": {"$ne": version}}
    return await client.index.images.count(others) == 0


def assert_learnt(trained: dict[str, Any]) -> None:
    """Lines that it has not learnt from are read far better than before."""
    change = trained["metrics"]["validation"]
    assert trained["model_version"].startswith(f"{MODEL}@")
    assert change["before"]["cer"] > 0.6
    assert change["after"]["cer"] < change["before"]["cer"] / 2
