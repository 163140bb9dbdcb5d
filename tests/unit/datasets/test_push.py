"""An export on its way into a bucket, without a server."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from services.common.adapters.object_store import ObjectStore
from services.common.domain.errors import ObjectNotFoundError
from services.datasets import push as pushing
from services.datasets.folder import SUMS
from services.datasets.manifest import FILE
from services.datasets.push import push


class Store:
    """Knows how many bytes are being written at once."""

    def __init__(self) -> None:
        self.held = self.most_held = 0
        self.keys: list[str] = []

    async def read(self, key: str, **_: Any) -> None:
        raise ObjectNotFoundError("sets", key)

    async def write(self, key: str, content: bytes, **_: Any) -> None:
        self.held += len(content)
        self.most_held = max(self.most_held, self.held)
        await asyncio.sleep(0.01)
        self.held -= len(content)
        self.keys.append(key)


async def test_large_files_are_not_held_in_memory_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushing, "BYTES_AT_ONCE", 25_000, raising=False)
    names = [f"data/train-{number:05}.parquet" for number in range(8)]
    (tmp_path / "data").mkdir()
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(b"x" * (30_000 if number == 3 else 10_000))
    (tmp_path / FILE).write_text("{}")
    (tmp_path / SUMS).write_text("".join(f"{'0' * 64}  {name}\n" for name in (*names, FILE)))
    store = Store()

    total = await push(tmp_path, cast("ObjectStore", store), "a", lambda *_: None)

    assert total == len(store.keys) == len(names) + 2
    assert set(store.keys) == {f"a/{name}" for name in (*names, FILE, SUMS)}
    assert store.keys[-1] == f"a/{FILE}"
    assert store.most_held <= 30_000
