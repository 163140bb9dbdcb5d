"""Speed of the OCR API, relative to its parts, and its behaviour under overload.

``python -m tests.bench.ocr [--json] [--rounds 5]`` reads the bundled samples in three ways, in
turns, so that whatever else the machine does meets all alike, and takes the medians:

* rapidocr's own call in a loop, with the number of threads that is best here;
* our engine in this process, by as many threads as the API has;
* the API over HTTP, with eight clients.

Then one client alone against the engine's own time, three times more requests than can be served,
and the start of a process with its memory.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import ClientError, ClientSession, FormData, TCPConnector
from rapidocr import RapidOCR
from rich.console import Console
from rich.table import Table

from app.engines.base import Engine
from app.engines.loading import load_engine
from app.images import Pixels, decode
from infra.local.ports import pick_free_ports
from infra.local.site import FOLDER
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
MAX_PIXELS = 25_000_000
THREADS = 2
CLIENTS = 8
MOST_ATTEMPTS = 100
BURST_SECONDS = 10.0
OVERLOAD = 3


@dataclass(frozen=True)
class Figures:
    """Measurements; medians over the rounds."""

    images: int
    rapidocr_threads: int
    rapidocr_images_per_second: float
    engine_images_per_second: float
    http_images_per_second: float
    http_to_rapidocr: float
    http_to_engine: float
    one_client_p95_ms: float
    engine_p95_ms: float
    one_client_overhead_p95_ms: float
    overload_offered_per_second: float
    overload_accepted_per_second: float
    overload_accepted_p99_ms: float
    overload_refused_p99_ms: float
    overload_refused_share: float
    cold_start_seconds: float
    memory_mb: int
    peak_memory_mb: int


@dataclass
class Running:
    """The API as a process, and a session with it."""

    session: ClientSession
    pid: int
    start_seconds: float

    async def predict(self, content: bytes) -> tuple[int, float]:
        """Send an image; return the status and the seconds that the answer took."""
        form = FormData()
        form.add_field("file", content, filename="a")
        started = time.perf_counter()
        async with self.session.post("/predict", data=form) as response:
            await response.read()
            return response.status, time.perf_counter() - started

    def memory_mb(self, field: str) -> int:
        """Return ``VmRSS`` or ``VmHWM``, its highest."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = (each for each in status.splitlines() if each.startswith(f"{field}:"))
        return int(line.split()[1]) // 1024


@asynccontextmanager
async def running_api() -> AsyncIterator[Running]:
    """Start the API with its default settings, and wait until it is ready."""
    port = pick_free_ports().ocr_api_port
    given = {"OCR_PORT": str(port), "OCR_THREADS": str(THREADS), "LOG_LEVEL": "error"}
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.main", cwd=ROOT, env={**os.environ, **given}
    )
    connector = TCPConnector(limit=0)  # requests that wait for a connection would count as slow
    async with ClientSession(f"http://127.0.0.1:{port}", connector=connector) as session:
        running = Running(session, process.pid, 0.0)
        await eventually(lambda: is_ready(session), seconds=120)
        running.start_seconds = time.perf_counter() - started
        try:
            yield running
        finally:
            process.terminate()
            await process.wait()


async def is_ready(session: ClientSession) -> bool:
    """Whether the API can read images."""
    try:
        async with session.get("/readyz") as response:
            return response.status == 200
    except ClientError:
        return False


def samples() -> list[bytes]:
    """Return the readable ones of the bundled sample images."""
    contents = [path.read_bytes() for path in sorted(FOLDER.glob("*.[jp][pn]g"))]
    return [content for content in contents if is_readable(content)]


def is_readable(content: bytes) -> bool:
    """Whether an image can be decoded; one of the samples is cut short."""
    try:
        decode(content, max_pixels=MAX_PIXELS)
    except Exception:  # noqa: BLE001  whatever is wrong with it
        return False
    return True


def rapidocr_reader(threads: int) -> Callable[[Pixels], Any]:
    """Return rapidocr's own call: recogniser only, with the weights of its wheel."""
    reader = RapidOCR(
        params={
            "Global.use_det": False,
            "Global.use_cls": False,
            "Global.use_preprocess_img": False,
            "Global.log_level": "critical",
            "Rec.model_path": str(files("rapidocr") / "models" / "PP-OCRv6_rec_small.onnx"),
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
    return lambda pixels: reader(np.ascontiguousarray(pixels[:, :, ::-1]))


def loop_rate(read: Callable[[Pixels], Any], contents: list[bytes], *, threads: int = 1) -> float:
    """Return the images a second of decoding and reading, by so many threads."""

    def one(content: bytes) -> None:
        read(decode(content, max_pixels=MAX_PIXELS).pixels)

    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, contents))
    return len(contents) / (time.perf_counter() - started)


async def http_rate(api: Running, contents: list[bytes]) -> float:
    """Return the images a second that eight clients get."""
    waiting = iter(contents)

    async def client() -> None:
        for content in waiting:
            status, _ = await api.predict(content)
            for _ in range(MOST_ATTEMPTS):
                if status == 200:
                    break
                await asyncio.sleep(0.05)
                status, _ = await api.predict(content)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return len(contents) / (time.perf_counter() - started)


def p(quantile: float, values: list[float]) -> float:
    """Return a quantile in milliseconds, of seconds."""
    return float(np.quantile(values, quantile)) * 1000 if values else 0.0


def engine_time(engine: Engine, content: bytes) -> float:
    """Return the seconds that the engine alone takes for an image, decoding included."""
    started = time.perf_counter()
    engine.read(decode(content, max_pixels=MAX_PIXELS).pixels)
    return time.perf_counter() - started


async def overload(
    api: Running, contents: list[bytes], rate: float
) -> tuple[list[float], list[float]]:
    """Send requests at a rate, whatever comes back; return seconds of accepted and refused."""
    accepted: list[float] = []
    refused: list[float] = []

    async def one(content: bytes) -> None:
        status, seconds = await api.predict(content)
        (accepted if status == 200 else refused).append(seconds)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate * BURST_SECONDS)):
            await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
            tasks.create_task(one(contents[number % len(contents)]))
    return accepted, refused


async def in_thread(work: Callable[[], Any]) -> Any:
    """Measure in a thread: the loop below serves clients."""
    return await asyncio.to_thread(work)


async def measure(rounds: int) -> Figures:
    """Measure everything."""
    contents = samples() * 4
    engine = load_engine("rapidocr", threads=THREADS)
    own = {threads: rapidocr_reader(threads) for threads in (1, 2)}
    own_rates = {threads: loop_rate(read, contents) for threads, read in own.items()}
    best = max(own_rates, key=lambda threads: own_rates[threads])
    async with running_api() as api:
        ways: dict[str, Callable[[], Awaitable[float]]] = {
            "rapidocr": lambda: in_thread(lambda: loop_rate(own[best], contents)),
            "engine": lambda: in_thread(lambda: loop_rate(engine.read, contents, threads=THREADS)),
            "http": lambda: http_rate(api, contents),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        alone: list[float] = []
        by_itself: list[float] = []
        for _ in range(rounds):
            for name, way in ways.items():
                rates[name].append(await way())
            for content in contents:  # in turns too
                by_itself.append(await asyncio.to_thread(engine_time, engine, content))
                alone.append((await api.predict(content))[1])
        median = {name: statistics.median(each) for name, each in rates.items()}
        offered = OVERLOAD * median["http"]
        accepted, refused = await overload(api, contents, offered)
        return Figures(
            images=len(contents),
            rapidocr_threads=best,
            rapidocr_images_per_second=median["rapidocr"],
            engine_images_per_second=median["engine"],
            http_images_per_second=median["http"],
            http_to_rapidocr=statistics.median(ratios(rates["http"], rates["rapidocr"])),
            http_to_engine=statistics.median(ratios(rates["http"], rates["engine"])),
            one_client_p95_ms=p(0.95, alone),
            engine_p95_ms=p(0.95, by_itself),
            one_client_overhead_p95_ms=p(0.95, alone) - p(0.95, by_itself),
            overload_offered_per_second=offered,
            overload_accepted_per_second=len(accepted) / BURST_SECONDS,
            overload_accepted_p99_ms=p(0.99, accepted),
            overload_refused_p99_ms=p(0.99, refused),
            overload_refused_share=len(refused) / (len(accepted) + len(refused)),
            cold_start_seconds=api.start_seconds,
            memory_mb=api.memory_mb("VmRSS"),
            peak_memory_mb=api.memory_mb("VmHWM"),
        )


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Return the ratio of each round: what slows one round slows both."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--rounds", type=int, default=5, help="of which the medians are taken")
    arguments = parser.parse_args()
    figures = asdict(asyncio.run(measure(arguments.rounds)))
    if arguments.json:
        sys.stdout.write(json.dumps(figures, indent=2) + "\n")
        return
    table = Table("measured", "value", title="OCR API")
    for name, value in figures.items():
        table.add_row(
            name.replace("_", " "), f"{value:.2f}" if isinstance(value, float) else str(value)
        )
    Console().print(table)


if __name__ == "__main__":
    main()
