"""``docreco report`` against a real database."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.common.adapters.mongo import open_database
from services.common.runtime.settings import MongoSettings

pytestmark = pytest.mark.usefixtures("mongo_environment")


async def store(
    settings: MongoSettings, *, days_ago: float, score: float, text: str, **fields: object
) -> None:
    at = datetime.now(tz=UTC) - timedelta(days=days_ago)
    prediction = {
        "text": text,
        "score": score,
        "engine": "rapidocr",
        "model_version": "1",
        "predicted_at": at,
        "duration_ms": 30,
    }
    async with open_database(settings) as database:
        await database.images.insert(
            {
                "_id": f"raw/{text}.png",
                "status": "predicted",
                "indexed_at": at,
                "prediction": prediction,
                "annotation": {"text": "Wikipedia", "quality": "ok", "by": "a", "at": at},
                "sources": [{"url": f"https://example.org/{text}.png"}],
                **fields,
            }
        )


def report(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["report", *arguments])
    return result.exit_code, result.stdout


async def test_period_is_read_from_the_database_and_written_as_a_page(
    mongo_settings: MongoSettings, tmp_path: Path
) -> None:
    await store(mongo_settings, days_ago=0.1, score=0.2, text="Wikipcdia")
    await store(mongo_settings, days_ago=3, score=0.8, text="Wikipedia")
    await store(mongo_settings, days_ago=30, score=0.1, text="old", annotation=None)
    await store(mongo_settings, days_ago=2, score=0.5, text="unread", annotation=None)
    same = {"sha256": "ab" * 32}
    await store(mongo_settings, days_ago=4, score=0.5, text="unwritten", annotation=None, **same)
    listed = {"text": "Listed", "quality": "ok", "by": "batch:1", "at": datetime.now(tz=UTC)}
    await store(mongo_settings, days_ago=5, score=0.5, text="given", annotation=listed, **same)
    await store(mongo_settings, days_ago=2, score=0.5, text="Wikipedia!", **same)
    await store(mongo_settings, days_ago=1, score=0.9, text="later copy", **same)
    page = tmp_path / "report.html"
    status, output = await asyncio.to_thread(report, "--json", "--html", str(page))
    assert status == 0
    told = json.loads(output)
    assert told["predictions"] == 4
    assert told["mean_score"] == pytest.approx(0.5)
    assert told["low_scores"] == 1
    assert told["character_error_rate"] == pytest.approx(2 / 27)
    assert [example["prediction"] for example in told["worst"]] == ["unread"]
    assert "raw/unread.png" in page.read_text()
    assert "raw/old.png" not in page.read_text()


async def test_table_names_the_worst(mongo_settings: MongoSettings) -> None:
    await store(mongo_settings, days_ago=0.1, score=0.2, text="Wikipcdia", annotation=None)
    status, output = await asyncio.to_thread(report, "--since", "1d")
    assert status == 0
    assert "Wikipcdia" in output
    assert "0.200" in output


@pytest.mark.parametrize(("page", "expected"), [("/nowhere/report.html", 4), ("/dev/full", 3)])
async def test_file_that_cannot_be_written_is_told(
    mongo_settings: MongoSettings, page: str, expected: int
) -> None:
    assert mongo_settings.database
    status, _ = await asyncio.to_thread(report, "--html", page)
    assert status == expected


def test_wrong_period_is_a_wrong_command_line() -> None:
    assert report("--since", "yesterday")[0] == 2
