"""``docreco submit`` and ``watch`` against the fetcher's contract; exit statuses and --json."""

import csv
import gzip
import json
import os
import sys
import tomllib
from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import typer
from aiohttp import web
from typer.testing import Result

from infra.local.ports import pick_free_ports
from services.cli.main import COMMANDS, app
from services.common.download.settings import DownloadSettings
from tests.support.commands import docreco
from tests.support.fetcher_api import (
    BATCH_ID,
    ScriptedFetcher,
    counts,
    item,
    problem,
    scripted_fetcher,
)
from tests.support.images import png_header

LIST = "http://site.example/a.png\nhttp://site.example/b.png\n"


@pytest.fixture
async def fetcher(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedFetcher]:
    """A fetcher that the commands find through their settings."""
    async with scripted_fetcher() as scripted:
        monkeypatch.setenv("DOCRECO_FETCHER_URL", scripted.url)
        monkeypatch.setenv("DOCRECO_POLL_SECONDS", "0.01")
        yield scripted


@pytest.fixture
def url_list(tmp_path: Path) -> Path:
    path = tmp_path / "urls.txt"
    path.write_text(LIST)
    return path


def answer(result: Result) -> Any:
    return json.loads(result.stdout)


async def test_help_names_each_command() -> None:
    shown = (await docreco("--help")).stdout
    assert {line.strip("\u2502 ").split(" ")[0] for line in shown.splitlines()} >= {*COMMANDS}


async def test_submit_sends_the_file_under_its_name(
    fetcher: ScriptedFetcher, url_list: Path
) -> None:
    result = await docreco("submit", url_list, "--name", "first", "--idempotency-key", "k1")
    assert result.exit_code == 0
    assert fetcher.submitted == [{"file_name": "urls.txt", "content": LIST, "name": "first"}]
    assert fetcher.headers[0]["Idempotency-Key"] == "k1"
    assert "2 accepted, 0 rejected" in result.stdout
    assert f"/batches/{BATCH_ID}" in result.stdout
    assert f"docreco watch {BATCH_ID}" in result.stdout


@pytest.mark.parametrize(
    ("content", "file_name"),
    [
        ("url,annotation\nhttp://site.example/a,A\n", "stdin.csv"),
        ("http://site.example/a\nhttp://site.example/b\n", "stdin.txt"),
        ('{"url": "http://site.example/a"}\n', "stdin.jsonl"),
    ],
)
async def test_submit_reads_standard_input_as_it_looks(
    fetcher: ScriptedFetcher, content: str, file_name: str
) -> None:
    result = await docreco("submit", "-", stdin=content)
    assert result.exit_code == 0
    assert fetcher.submitted[0]["file_name"] == file_name
    assert fetcher.submitted[0]["content"] == content


@pytest.mark.parametrize(
    ("content", "file_name"),
    [
        (gzip.compress(b'{"url": "http://site.example/a"}\n'), "stdin.jsonl"),
        (png_header(3, 2), "stdin"),
        (b"%PDF-1.7\n", "stdin"),
    ],
    ids=["gzip", "image", "PDF"],
)
async def test_submit_names_standard_input_for_what_it_is(
    fetcher: ScriptedFetcher, content: bytes, file_name: str
) -> None:
    await docreco("submit", "-", stdin=content)
    assert fetcher.submitted[0]["file_name"] == file_name
    assert fetcher.submitted[0]["content"] == content.decode(errors="surrogateescape")


async def test_submit_takes_a_file_of_any_name(fetcher: ScriptedFetcher, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b'caf\xe9 "a".txt')
    path.write_text(LIST)
    assert (await docreco("submit", path)).exit_code == 0
    assert fetcher.submitted[0]["file_name"] == 'caf\N{REPLACEMENT CHARACTER} "a".txt'


async def test_submit_reads_standard_input_as_it_is_told(fetcher: ScriptedFetcher) -> None:
    await docreco("submit", "-", "--format", "csv", stdin="http://site.example/a\n")
    assert fetcher.submitted[0]["file_name"] == "stdin.csv"


async def test_submit_leaves_a_list_on_the_web_to_the_fetcher(fetcher: ScriptedFetcher) -> None:
    await docreco("submit", "https://site.example/list.csv")
    assert fetcher.submitted == [{"list_url": "https://site.example/list.csv"}]


async def test_rejected_lines_are_shown_and_make_the_exit_status_1(
    fetcher: ScriptedFetcher, url_list: Path
) -> None:
    rejected = {"line": 7, "value": "[b]x\x1b[2J", "code": "invalid_url", "detail": "no scheme"}
    assert isinstance(fetcher.submission, dict)
    fetcher.submission |= {"rejected": [rejected], "rejected_count": 1200}
    result = await docreco("submit", url_list)
    assert result.exit_code == 1
    assert "1200 rejected" in result.stdout
    assert "invalid_url" in result.stdout
    assert "[b]x" in result.stdout
    assert "\x1b" not in result.stdout


async def test_submit_json_is_the_fetchers_answer(fetcher: ScriptedFetcher, url_list: Path) -> None:
    result = await docreco("submit", url_list, "--json")
    assert isinstance(fetcher.submission, dict)
    assert answer(result) == answer(result) | fetcher.submission
    assert result.stderr == ""


async def test_submit_and_watch_json_is_one_document(
    fetcher: ScriptedFetcher, url_list: Path
) -> None:
    fetcher.progress = [counts(queued=2), counts(queued=1, stored=1), counts(stored=2)]
    result = await docreco("submit", url_list, "--watch", "--json")
    assert result.exit_code == 0
    assert answer(result)["submission"]["batch_id"] == BATCH_ID
    assert answer(result)["batch"]["counts"] == counts(stored=2)


async def test_watch_lists_every_failure_with_its_reason(fetcher: ScriptedFetcher) -> None:
    fetcher.progress = [counts(queued=4), counts(stored=1, failed=3)]
    fetcher.items = [
        item(f"http://site.example/{n}", "failed", code=code, detail="it says so")
        for n, code in enumerate(("not_found", "not_found", "not_an_image"))
    ] + [item("http://site.example/good")]
    result = await docreco("watch", BATCH_ID)
    assert result.exit_code == 1
    assert "3 failed" in result.stdout
    assert "2 not_found, 1 not_an_image" in result.stdout
    assert "site.example/2" in result.stdout


async def test_watch_json_has_counts_codes_and_failures(fetcher: ScriptedFetcher) -> None:
    fetcher.progress = [counts(stored=1, failed=3)]
    fetcher.items = [item(f"http://site.example/{n}", "failed", code="not_found") for n in range(3)]
    result = await docreco("watch", BATCH_ID, "--json")
    assert result.exit_code == 1
    assert answer(result)["failure_codes"] == {"not_found": 3}
    assert [each["url"] for each in answer(result)["failed"]] == [
        f"http://site.example/{n}" for n in range(3)
    ]


async def test_token_is_sent_and_never_shown(
    fetcher: ScriptedFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCRECO_FETCHER_TOKEN", "s3cret-token")
    result = await docreco("watch", BATCH_ID)
    assert fetcher.headers[0]["Authorization"] == "Bearer s3cret-token"
    assert "s3cret-token" not in result.output


async def test_refused_list_shows_the_lines(fetcher: ScriptedFetcher, url_list: Path) -> None:
    lines = [{"line": n, "code": "invalid_url", "detail": f"bad {n}"} for n in range(1, 13)]
    fetcher.submission = problem(422, "empty_list", "no row can be fetched", rejected=lines)
    result = await docreco("submit", url_list, "--json")
    assert result.exit_code == 4
    assert result.stdout == ""
    assert "422 empty_list" in result.stderr
    assert "line 10: bad 10" in result.stderr
    assert "and 2 more" in result.stderr


async def test_error_of_a_whole_list_is_shown_once(
    fetcher: ScriptedFetcher, url_list: Path
) -> None:
    words = "no column is named url. Name it by url_column"
    lines = [{"line": 1, "code": "no_url_column", "detail": words}]
    fetcher.submission = problem(422, "malformed_list", words, rejected=lines)
    result = await docreco("submit", url_list)
    assert result.stderr.count("no column is named url") == 1
    assert "--url-column NAME" in result.stderr


async def test_missing_token_is_said_with_the_setting(
    fetcher: ScriptedFetcher, url_list: Path
) -> None:
    fetcher.submission = problem(401, "unauthorized", "bearer token missing or wrong")
    result = await docreco("submit", url_list)
    assert result.exit_code == 4
    assert "DOCRECO_FETCHER_TOKEN" in result.stderr


async def test_unknown_batch_is_refused(fetcher: ScriptedFetcher) -> None:
    result = await docreco("watch", "../other")
    assert result.exit_code == 4
    assert "batch_not_found" in result.stderr
    assert len(fetcher.headers) == 1


@pytest.mark.parametrize("body", ["<html>a proxy</html>", '{"hello": 1}', '["x"]'])
async def test_answer_that_is_not_the_fetchers_is_said(
    fetcher: ScriptedFetcher, url_list: Path, body: str
) -> None:
    content_type = "application/json" if body[0] in "[{" else "text/html"
    fetcher.submission = web.Response(text=body, content_type=content_type)
    result = await docreco("submit", url_list)
    assert result.exit_code == 4
    assert "DOCRECO_FETCHER_URL" in result.stderr


async def test_error_page_without_a_problem_keeps_its_status(
    fetcher: ScriptedFetcher, url_list: Path
) -> None:
    fetcher.submission = web.Response(status=502, text="bad gateway")
    result = await docreco("submit", url_list)
    assert result.exit_code == 4
    assert "502 Bad Gateway" in result.stderr


@pytest.mark.parametrize("as_json", [False, True])
async def test_fetcher_that_is_down_is_named_with_its_setting(
    monkeypatch: pytest.MonkeyPatch,
    as_json: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    port = pick_free_ports().fetcher_port
    monkeypatch.setenv("DOCRECO_FETCHER_URL", f"http://127.0.0.1:{port}")
    result = await docreco("watch", BATCH_ID, *(["--json"] if as_json else []))
    assert result.exit_code == 3
    assert result.stdout == ""
    said = result.stderr
    assert f"http://127.0.0.1:{port}" in said
    assert "DOCRECO_FETCHER_URL" in said
    assert "./run_local.sh" in said


async def test_missing_file_is_named(tmp_path: Path) -> None:
    result = await docreco("submit", tmp_path / "none.txt")
    assert result.exit_code == 4
    assert "No such file" in result.stderr


async def test_bad_setting_has_an_exit_status_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCRECO_POLL_SECONDS", "-1")
    result = await docreco("watch", BATCH_ID)
    assert result.exit_code == 5
    assert "poll_seconds" in result.stderr


async def test_version_is_that_of_pyproject() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]

    result = await docreco("--version")

    assert result.stdout == f"docreco {project['version']}\n"
    assert DownloadSettings().user_agent == f"docreco-fetcher/{project['version']}"


async def test_every_command_tells_its_exit_statuses() -> None:
    for command in ("submit", "watch", "images", "doctor"):
        result = await docreco(command, "--help")
        assert result.exit_code == 0
        assert "Exit status" in result.stdout
        assert "--json" in result.stdout


WITH_TABLES = (
    *("submit", "watch", "images", "annotate", "export", "evaluate", "report", "train"),
    *("reconcile", "calibrate", "forget", "hosts", "doctor", "migrate", "pages list", "pages show"),
    *("parked list", "models list", "models show", "models compare", "models check"),
    "label-studio pull",
)


@pytest.mark.parametrize("name", WITH_TABLES)
def test_tables_come_as_csv_json_and_of_any_width(name: str) -> None:
    command: Any = typer.main.get_command(app)
    for word in name.split():
        command = command.get_command(None, word)
    options = {option for each in command.params for option in each.opts}
    assert {"--json", "--csv", "--wide"} <= options


async def test_watched_batch_is_one_csv_table(fetcher: ScriptedFetcher, url_list: Path) -> None:
    fetcher.items = [item("http://site.example/b.png", "failed", code="not_found")]
    result = await docreco("submit", url_list, "--watch", "--csv")
    (row,) = csv.DictReader(StringIO(result.stdout))
    assert (row["image"], row["code"]) == ("http://site.example/b.png", "not_found")
    assert "2 accepted" in result.stderr


async def test_train_without_torch_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [each for each in sys.modules if each.startswith("services.training.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "torch", None)

    result = await docreco("train", tmp_path, "--name", "model")

    assert result.exit_code == 3
    assert "torch is not installed" in result.stderr
    assert "poetry install --extras trocr" in result.stderr


async def test_hosts_shows_who_is_waited_for_and_why(fetcher: ScriptedFetcher) -> None:
    nothing = await docreco("hosts")
    until = "2026-11-28T12:00:00Z"
    fetcher.hosts = [
        {"host": "a.test", "reason": "throttled", "until": until, "crawl_delay": 0.0},
        {"host": "b.test:81", "reason": "silent", "until": until, "crawl_delay": 0.0},
    ]

    shown = await docreco("hosts")
    document = json.loads((await docreco("hosts", "--json", "--limit", "1")).stdout)

    assert "No host is delayed" in nothing.stdout
    assert "b.test:81" in shown.stdout
    assert "does not answer" in shown.stdout
    assert [(each["host"], each["reason"]) for each in document["hosts"]] == [
        ("a.test", "throttled")
    ]
