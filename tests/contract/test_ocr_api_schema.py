"""The OCR API does what its OpenAPI document says, whatever it is sent: every check and route."""

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.engines.loading import load_engine
from tests.support.running_ocr_api import running_api

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
TOKEN = "token-of-this-test"

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


async def test_every_answer_is_as_documented(tmp_path: Path) -> None:
    engine = load_engine("rapidocr")
    async with running_api(lambda: engine, api_token=SecretStr(TOKEN)) as api:
        process = await asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).with_name("schemathesis")), "--no-color"),
            *("--config-file", str(CONFIGURATION)),
            *("run", f"{api.session._base_url}/openapi.json", "--checks=all", "--seed=1"),
            *("--continue-on-failure", "--suppress-health-check=all", "--max-response-time=10"),
            *("--header", f"Authorization: Bearer {TOKEN}"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate())[0].decode()

    assert process.returncode == 0, output
    tested = re.search(r"Tested: (\d+)", output)
    assert tested, output
    assert tested[1] == "5", output


async def test_every_route_has_examples() -> None:
    async with running_api(lambda: load_engine("rapidocr")) as api:
        document = await (await api.session.get("/openapi.json")).json()

    bodies = {
        f"{method} {path} {where}": body
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for where, body in contents(operation)
    }
    assert len(bodies) > 15
    assert [where for where, body in bodies.items() if not has_example(document, body)] == []


def contents(operation: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    answers = [("request", operation.get("requestBody", {})), *operation["responses"].items()]
    return [
        (f"{where} {media_type}", body)
        for where, answer in answers
        for media_type, body in answer.get("content", {}).items()
    ]


def has_example(document: dict[str, Any], body: dict[str, Any]) -> bool:
    if "example" in body or "examples" in body:
        return True
    schema = body.get("schema", {})
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    # a file has none: pictures are no JSON
    return "example" in schema or "multipart/form-data" in str(body) or "file" in str(schema)
