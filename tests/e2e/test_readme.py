"""The commands of the README and of docs/usage.md, run but for ports and the list's content."""

import asyncio
import re
import sys
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import pytest

from infra.local.settings import child_environment
from tests.support.pipeline import Client, Pipeline
from tests.support.waiting import deadline
from tests.support.web import WebSite, png

ROOT = Path(__file__).parents[2]
PAGES = [(ROOT / name).read_text() for name in ("README.md", "docs/usage.md")]
BLOCKS = dict.fromkeys(re.findall(r"```sh\n(.*?)```", "".join(PAGES), flags=re.DOTALL))
COMMANDS = [block for block in BLOCKS if "curl" in block or "docreco " in block]


def localised(block: str, pipeline: Pipeline) -> str:
    docreco = Path(sys.executable).with_name("docreco")
    return (
        block.replace("poetry run docreco", str(docreco))
        .replace("http://127.0.0.1:8081", pipeline.fetcher_url)
        .replace("http://127.0.0.1:8080", pipeline.ocr_url)
        .replace("curl ", "curl -sS --fail-with-body ")
    )


async def run(block: str, pipeline: Pipeline, folder: Path) -> str:
    """Run commands in a folder, and return what they print."""
    (folder / "infra").symlink_to(ROOT / "infra")
    environment = {
        **pipeline.addresses.environment(),
        "DOCRECO_FETCHER_URL": pipeline.fetcher_url,
        "DOCRECO_OCR_URL": pipeline.ocr_url,
    }
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", localised(block, pipeline)),
        cwd=folder,
        env=child_environment(environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with deadline():
        output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    return output


@pytest.mark.parametrize("block", COMMANDS, ids=[block.split("\n")[0] for block in COMMANDS])
async def test_example_works(
    block: str, pipeline: Pipeline, client: Client, site: WebSite, tmp_path: Path
) -> None:
    url = site.add_body("/a.png", png(1))
    if "--collection letters" in block:
        await add_letter(client, url)
    (tmp_path / "urls.csv").write_text(f"url,annotation\n{url},industrie\n")
    with ZipFile(tmp_path / "scans.zip", "w") as archive:
        archive.writestr("a.png", png(1))

    assert await run(block, pipeline, tmp_path)


async def add_letter(client: Client, url: str) -> None:
    """Add an annotated image of 1916 to the collection of an example."""
    letter = {"url": url, "annotation": "industrie", "year": 1916}
    batch = {"items": [letter], "collection": "letters"}
    async with client.fetcher.post("/batches", json=batch) as response:
        assert response.status == 202, await response.text()
    await client.document({"sources.collection": "letters", "status": "predicted"})


async def test_image_of_the_first_example_enters_the_pipeline(
    pipeline: Pipeline, client: Client, tmp_path: Path
) -> None:
    first = COMMANDS[0]
    [image] = re.findall(r"file=@(\S+) http://127.0.0.1:8080/predict", first)
    digest = sha256((ROOT / image).read_bytes()).hexdigest()

    await run(first, pipeline, tmp_path)

    document = await client.document({"key": f"api/{digest}.png", "status": "predicted"})
    assert document["prediction"]["text"] == "Wikipedia"


def test_readme_has_examples_of_each_way_in() -> None:
    text = "".join(COMMANDS)

    assert all(
        word in text for word in ("docreco submit", "docreco images", "/batches", "/predict")
    )
