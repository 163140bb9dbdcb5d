"""The bundled samples: what is committed agrees with the script, and the site serves it."""

import asyncio
import csv
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from io import BytesIO, StringIO
from pathlib import Path

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from PIL import Image, ImageFont
from yarl import URL

from infra.local.ports import pick_free_ports
from infra.local.probes import answers
from infra.local.samples import make
from infra.local.site import FOLDER, LIST_NAME, absolute_list, build_site, site_url
from services.common.domain.image_formats import sniff
from tests.support.waiting import deadline, eventually

MAX_TOTAL_BYTES = 300_000


@pytest.fixture
async def site() -> AsyncIterator[ClientSession]:
    """The site, on a port of its own."""
    async with TestServer(build_site()) as server, ClientSession(server.make_url("/")) as session:
        yield session


def rows(content: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(content)))


def listed() -> list[dict[str, str]]:
    return rows((FOLDER / LIST_NAME).read_text())


def test_list_names_every_sample_with_its_text() -> None:
    annotated = {row["url"]: row["annotation"] for row in listed() if row["annotation"]}
    assert annotated == {sample.name: sample.text for sample in make.SAMPLES}


def test_folder_holds_what_the_list_names_and_nothing_else() -> None:
    names = {row["url"] for row in listed()} - {make.MISSING_NAME} | {LIST_NAME}
    assert {path.name for path in FOLDER.iterdir()} == names


def test_samples_show_what_a_newcomer_should_see() -> None:
    texts = [sample.text for sample in make.SAMPLES]
    assert len(texts) >= 12
    assert {"Wikipedia", "industrie"} <= set(texts)
    assert set("éèçœ«»") <= set("".join(texts))


def test_every_sample_decodes_as_the_format_its_name_says() -> None:
    for sample in make.SAMPLES:
        content = (FOLDER / sample.name).read_bytes()
        found = sniff(content)
        assert found is not None
        assert sample.name.endswith(found.extension)
        with Image.open(BytesIO(content)) as image:
            image.load()
            assert image.width > image.height


def test_samples_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < MAX_TOTAL_BYTES


def test_truncated_sample_has_a_header_but_does_not_decode() -> None:
    content = (FOLDER / make.TRUNCATED_NAME).read_bytes()
    assert sniff(content) is not None
    with Image.open(BytesIO(content)) as image, pytest.raises(OSError, match="truncated"):
        image.load()


def test_html_sample_is_no_image() -> None:
    assert sniff((FOLDER / make.HTML_NAME).read_bytes()) is None


def test_drawing_twice_gives_the_same_bytes() -> None:
    font = ImageFont.load_default(40)
    assert isinstance(font, ImageFont.FreeTypeFont)
    for sample in make.SAMPLES:
        first, second = (make.encode(make.draw(sample, font), sample.name) for _ in range(2))
        assert first == second


def test_missing_fonts_are_named_with_the_install_command(tmp_path: Path) -> None:
    with pytest.raises(make.FontMissingError, match=r"pip install .*fontpkg-caveat==2\.0"):
        make.files(tmp_path)


async def test_site_serves_every_file_as_it_is(site: ClientSession) -> None:
    for path in FOLDER.iterdir():
        if path.name != LIST_NAME:
            async with site.get(f"/{path.name}") as response:
                assert response.status == 200
                assert await response.read() == path.read_bytes()


async def test_site_calls_the_html_page_a_png(site: ClientSession) -> None:
    async with site.get(f"/{make.HTML_NAME}") as response:
        assert response.content_type == "image/png"


@pytest.mark.parametrize("path", [make.MISSING_NAME, "%2e%2e%2fmake.py", "__init__.py"])
async def test_site_answers_404_to_anything_else(site: ClientSession, path: str) -> None:
    async with site.get(URL(f"/{path}", encoded=True)) as response:
        assert response.status == 404


async def test_every_url_of_the_served_list_leads_to_the_site(site: ClientSession) -> None:
    async with site.get("/") as response:
        served = rows(await response.text())
        base = str(response.url)
    assert [row["url"] for row in served] == [base + row["url"] for row in listed()]
    statuses = {}
    for row in served:
        async with site.get(row["url"]) as response:
            statuses[row["url"].removeprefix(base)] = response.status
    assert {name for name, status in statuses.items() if status == 404} == {make.MISSING_NAME}


def test_absolute_list_keeps_commas_and_accents() -> None:
    served = absolute_list('url,annotation\na.png,"é, œ"\n', "http://site/")
    assert rows(served) == [{"url": "http://site/a.png", "annotation": "é, œ"}]


async def test_site_process_stops_on_sigterm_with_status_0() -> None:
    port = pick_free_ports().samples_port
    argv = [sys.executable, "-m", "infra.local.site", f"--port={port}"]
    process = await asyncio.create_subprocess_exec(*argv)
    try:
        await eventually(answers(site_url(port)))
        process.send_signal(signal.SIGTERM)
        async with deadline():
            assert await process.wait() == 0
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
