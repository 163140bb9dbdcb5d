"""The command line as a person calls it."""

import asyncio

from typer.testing import CliRunner, Result

from services.cli.main import app


async def docreco(*arguments: object, stdin: str | bytes | None = None) -> Result:
    """Run a command in a thread: it has an event loop of its own."""
    words = [str(each) for each in arguments]
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, words, input=stdin))
