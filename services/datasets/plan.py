"""Plan of an export: a table on disk, in constant memory.

It takes each image once, whatever number of keys its bytes have, and hands them out in the order
of their hashes, which no key and no time of arrival changes.

See docs/decisions/0018-splits-by-hash.md.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from services.common.domain.labels import Origin
from services.common.domain.records import UNKNOWN_HOW, UPLOADED
from services.datasets.manifest import ManifestRecord

PAGE = 500
EXPORTED = "exported"
_PLANNED = "planned"
UNKNOWN_LICENCE = "unknown"

_NONE: Mapping[str, str] = MappingProxyType({})

_TABLE = """
CREATE TABLE records (
    sha256 TEXT PRIMARY KEY, state TEXT, split TEXT, origin TEXT, score REAL, length INTEGER,
    model TEXT, host TEXT, how TEXT,
    collection TEXT, licence TEXT, record TEXT, rewritten TEXT
) WITHOUT ROWID
"""
_SEEN = "CREATE TABLE seen (sha256 TEXT PRIMARY KEY) WITHOUT ROWID"
_GROUPS = "CREATE TABLE groups (name TEXT, sha256 TEXT, PRIMARY KEY (name, sha256)) WITHOUT ROWID"
_ADD = """
INSERT INTO records
VALUES (:sha256, :state, :split, :origin, :score, :length, :model, :host, :how, :collection,
    :licence, :record, NULL)
ON CONFLICT (sha256) DO NOTHING
"""


class Distribution(NamedTuple):
    """Distribution of values."""

    least: float
    median: float
    mean: float
    most: float


class ExportPlan:
    """Records by their hash, and what became of each."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """Make an empty table in a file, which is removed in the end."""
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            # What is left of an interrupted export is never read again
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(_TABLE)
            connection.execute(_SEEN)
            connection.execute(_GROUPS)
            yield cls(connection)
        finally:
            connection.close()
            path.unlink(missing_ok=True)

    def unseen(self, hashes: Iterable[str]) -> list[str]:
        """Return those hashes that were never given before, each once."""
        insert = "INSERT OR IGNORE INTO seen VALUES (?)"
        return [each for each in hashes if self._connection.execute(insert, (each,)).rowcount]

    def add(self, records: Iterable[ManifestRecord]) -> None:
        """Take records; of equal bytes the first."""
        taken = list(records)
        self._connection.executemany(_ADD, [_row(record) for record in taken])
        groups = [(name, record.sha256) for record in taken for name in record.split_groups]
        self._connection.executemany("INSERT OR IGNORE INTO groups VALUES (?, ?)", groups)

    def mark(self, states: Mapping[str, str], rewritten: Mapping[str, str] = _NONE) -> None:
        """Store states of records and reasons of rewriting, by hash."""
        self._connection.executemany(
            "UPDATE records SET state = ?, rewritten = ? WHERE sha256 = ?",
            [(state, rewritten.get(sha256), sha256) for sha256, state in states.items()],
        )

    def state(self, sha256: str) -> str | None:
        """Return the state of these bytes; None if not selected."""
        found = self._connection.execute(
            "SELECT state FROM records WHERE sha256 = ?", (sha256,)
        ).fetchone()
        return None if found is None else str(found[0])

    def records(self, state: str | None = None) -> Iterator[ManifestRecord]:
        """Yield records sorted by hash, all or those in a state; states may change meanwhile."""
        last = ""
        while True:
            rows = self._connection.execute(
                "SELECT sha256, record, rewritten FROM records"
                " WHERE sha256 > ? AND state = coalesce(?, state) ORDER BY sha256 LIMIT ?",
                (last, state, PAGE),
            ).fetchall()
            if not rows:
                return
            for _, record, rewritten in rows:
                yield ManifestRecord.model_validate({**json.loads(record), "rewritten": rewritten})
            last = rows[-1][0]

    def count(self) -> int:
        """Return the number of images."""
        return int(self._connection.execute("SELECT count(*) FROM records").fetchone()[0])

    def counts(self, column: str, *, state: str = EXPORTED, most: int = -1) -> dict[str, int]:
        """Return the counts of a column's values, most frequent first."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS[column]}, count(*) FROM records WHERE state = ?"  # noqa: S608
            f" AND {_COLUMNS[column]} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?",
            (state, most),
        )
        return {str(value): int(count) for value, count in rows}

    def collections(self, most: int) -> list[tuple[str, str, int]]:
        """Return the collections and licences with most images, and their numbers of images."""
        rows = self._connection.execute(
            "SELECT collection, licence, count(*) FROM records WHERE state = ?"
            " AND collection IS NOT NULL GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT ?",
            (EXPORTED, most),
        )
        return rows.fetchall()

    def groups(self) -> tuple[int, int]:
        """Return the number of groups, and of those with images in more than one split."""
        parts = self._connection.execute(
            "SELECT count(DISTINCT split) FROM groups JOIN records USING (sha256)"
            " WHERE state = ? GROUP BY name",
            (EXPORTED,),
        ).fetchall()
        return len(parts), sum(count > 1 for (count,) in parts)

    def states(self) -> dict[str, int]:
        """Return the number of records in each other state."""
        rows = self._connection.execute(
            "SELECT state, count(*) FROM records WHERE state <> ? GROUP BY 1", (EXPORTED,)
        )
        return {str(state): int(count) for state, count in rows}

    def spread(self, column: str) -> Distribution | None:
        """Return the distribution of a column's values; None without any."""
        name = _COLUMNS[column]
        where = f"FROM records WHERE state = ? AND {name} IS NOT NULL"
        number, *rest = self._connection.execute(
            f"SELECT count(*), min({name}), avg({name}), max({name}) {where}",
            (EXPORTED,),
        ).fetchone()
        if not number:
            return None
        (median,) = self._connection.execute(
            f"SELECT {name} {where} ORDER BY 1 LIMIT 1 OFFSET ?",
            (EXPORTED, number // 2),
        ).fetchone()
        least, mean, most = rest
        return Distribution(float(least), float(median), float(mean), float(most))


_NAMES = (
    *("split", "origin", "score", "length", "model", "host", "how", "rewritten"),
    *("collection", "licence"),
)
_COLUMNS = {name: name for name in _NAMES}
"""Allowed columns, as names can't be parameters of a statement."""


def _row(record: ManifestRecord) -> dict[str, Any]:
    return {
        "sha256": record.sha256,
        "state": _PLANNED,
        "split": record.split,
        "origin": record.origin.value,
        "score": record.score,
        "length": len(record.label),
        "model": f"{record.engine} {record.model_version}" if record.model_version else "none",
        "how": (record.how or UNKNOWN_HOW) if record.origin is Origin.ANNOTATION else None,
        "collection": record.collection,
        "licence": record.licence or UNKNOWN_LICENCE,
        "host": record.hosts[0] if record.hosts else UPLOADED,
        "record": json.dumps(record.model_dump(mode="json"), ensure_ascii=False),
    }
