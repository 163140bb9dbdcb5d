"""Commands as people type them, in a shell of their own."""

import asyncio
import json
import sys
from asyncio.subprocess import Process
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.local.settings import child_environment
from tests.support.pipeline import Pipeline

ROOT = Path(__file__).parents[2]


@dataclass
class Terminal:
    """Runs commands against a pipeline, in a folder of its own."""

    pipeline: Pipeline
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    async def type(self, command: str) -> dict[str, Any]:
        """Run a command; return its answer for machines."""
        process = await self.start(command)
        async with asyncio.timeout(600):
            answer, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        document: dict[str, Any] = json.loads(answer)
        return document

    async def start(self, command: str) -> Process:
        """Start a command in a process group of its own."""
        docreco = Path(sys.executable).with_name("docreco")
        typed = command.replace("poetry run docreco", str(docreco))
        environment = {
            **self.pipeline.addresses.environment(),
            **self.variables,
            "DOCRECO_FETCHER_URL": self.pipeline.fetcher_url,
            "HF_HOME": str(self.folder / "hugging-face"),
            "PYTHONPATH": str(ROOT),
        }
        return await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", f"{typed} --json"),
            cwd=self.folder,
            env=child_environment(environment),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
