"""Finished runs in one file, found again by everything that determined them. Never trains.

The file is an SQLite database. A block of runs is written in one transaction, so that a process which is killed at any
moment leaves either all of the block or nothing; several processes may read and write at once.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

import numpy as np

_MARK = 0x42534C31  # "BSL1": tells our files from other SQLite databases
_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS runs (
    setting INTEGER NOT NULL REFERENCES settings (id),
    learning_rate REAL NOT NULL,
    seed INTEGER NOT NULL,
    figures BLOB NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (setting, learning_rate, seed)
) WITHOUT ROWID;
"""
_PATIENCE_SECONDS = 60  # for another process to finish its transaction, which takes milliseconds

Run: TypeAlias = tuple[float, int]
"""A learning rate and a seed: what tells the runs of one setting apart."""


class StoreError(ValueError):
    """What is wrong with a store, and how to mend it."""


class Store:
    """Finished runs in one file.

    Args:
        path: The file, created if there is none; None keeps the runs in memory.

    Raises:
        StoreError: The file is damaged, or is something else.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self._name = "the store in memory" if path is None else str(path)
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        with self._blamed():
            self._connection = sqlite3.connect(
                ":memory:" if path is None else path, timeout=_PATIENCE_SECONDS, isolation_level=None
            )
        try:
            with self._blamed():
                self._open()
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()

    def missing(self, setting: Mapping[str, object], runs: Iterable[Run]) -> list[Run]:
        """Return those runs of a setting that are not in the store, in the order given.

        Args:
            setting: All that determines a run but its learning rate and its seed; anything that JSON can express.
            runs: Learning rates and seeds.
        """
        with self._blamed():
            query = "SELECT learning_rate, seed FROM runs WHERE setting = (SELECT id FROM settings WHERE text = ?)"
            there = set(self._connection.execute(query, [_text(setting)]))
        return [run for run in runs if run not in there]

    def add(self, setting: Mapping[str, object], runs: Sequence[Run], figures: Mapping[str, np.ndarray]) -> None:
        """Write a block of finished runs, all or none. A run that is there already stays as it is.

        Args:
            setting: As in `missing`.
            runs: Learning rates and seeds.
            figures: For each figure float32 of shape (epochs kept, runs); every block of a setting has the same ones.
        """
        text = _text(setting)
        packed = np.stack([np.asarray(figures[name], "<f4") for name in sorted(figures)])
        rows = []
        for at, (rate, seed) in enumerate(runs):
            content = np.ascontiguousarray(packed[..., at]).tobytes()
            rows.append((rate, seed, zlib.compress(content, 1), _digest(text, rate, seed, content)))
        with self._blamed():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.execute("INSERT OR IGNORE INTO settings (text) VALUES (?)", [text])
                (number,) = self._connection.execute("SELECT id FROM settings WHERE text = ?", [text]).fetchone()
                insert = "INSERT OR IGNORE INTO runs VALUES (?, ?, ?, ?, ?)"
                self._connection.executemany(insert, ((number, *row) for row in rows))
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise

    def figures(
        self, setting: Mapping[str, object], names: Sequence[str], runs: Sequence[Run]
    ) -> dict[str, np.ndarray]:
        """Read finished runs.

        Args:
            setting: As in `missing`.
            names: Of the figures that each run has.
            runs: Learning rates and seeds.

        Returns:
            For each figure float32 of shape (epochs kept, runs).

        Raises:
            StoreError: A run is not there, or its content is not what was written.
        """
        text = _text(setting)
        wanted = {run: at for at, run in enumerate(runs)}
        found: list[np.ndarray | None] = [None] * len(wanted)
        with self._blamed():
            query = (
                "SELECT learning_rate, seed, figures, digest FROM runs "
                "WHERE setting = (SELECT id FROM settings WHERE text = ?)"
            )
            for rate, seed, packed, digest in self._connection.execute(query, [text]):
                if (at := wanted.get((rate, seed))) is not None:
                    found[at] = self._unpacked(text, rate, seed, packed, digest).reshape(len(names), -1)
        if absent := [run for run, at in wanted.items() if found[at] is None]:
            raise StoreError(
                f"{self._name}: the run at learning rate {absent[0][0]:g} with seed {absent[0][1]} is not there. Run "
                "the sweep again: it trains what is missing."
            )
        stacked = np.stack(found, axis=-1)
        return dict(zip(sorted(names), stacked, strict=True))

    def __len__(self) -> int:
        with self._blamed():
            return self._connection.execute("SELECT COUNT(*) FROM runs").fetchone()[0]

    def _open(self) -> None:
        database = self._connection
        # The tables first: another process may be creating them, and the mark with them, at this moment.
        (tables,) = database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        (mark,) = database.execute("PRAGMA application_id").fetchone()
        if tables and mark != _MARK:
            raise StoreError(
                f"{self._name} is an SQLite database, but not a store of runs. Give another path; it stays as it is."
            )
        problems = [row[0] for row in database.execute("PRAGMA integrity_check(1)")]
        if problems != ["ok"]:
            raise StoreError(self._damaged(problems[0]))
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        if not tables:
            database.executescript(f"BEGIN IMMEDIATE; PRAGMA application_id = {_MARK}; {_SCHEMA} COMMIT;")

    def _unpacked(self, text: str, rate: float, seed: int, packed: bytes, digest: bytes) -> np.ndarray:
        try:
            content = zlib.decompress(packed)
        except zlib.error:
            content = b""
        if _digest(text, rate, seed, content) != digest:
            raise StoreError(
                self._damaged(f"the run at learning rate {rate:g} with seed {seed} is not what was written")
            )
        return np.frombuffer(content, "<f4")

    def _damaged(self, what: str) -> str:
        return (
            f"{self._name} is damaged: {what}. Put a copy in its place, or delete it (with the files beside it that "
            "end in -wal and -shm) and run the sweep again."
        )

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """Say of an error of SQLite's in which file it occurred, and what to do."""
        try:
            yield
        except (
            sqlite3.OperationalError
        ) as error:  # locked for a minute, disk full, no permission: the file is as it was
            raise StoreError(f"{self._name} cannot be used: {error}. Mend that and run the sweep again.") from error
        except sqlite3.DatabaseError as error:
            raise StoreError(self._damaged(str(error))) from error


def _text(setting: Mapping[str, object]) -> str:
    return json.dumps(setting, sort_keys=True, allow_nan=False)


def _digest(text: str, rate: float, seed: int, content: bytes) -> bytes:
    """What shows that a run is what was written, under the setting, rate and seed under which it was."""
    parts = (text.encode(), struct.pack("<dq", rate, seed), content)
    return hashlib.blake2b(b"".join(parts), digest_size=8).digest()
