"""A store gives back what was written, all of a block or nothing, and says what is wrong with a file."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from batchlab.study.store import Store, StoreError

SRC = Path(__file__).resolve().parent.parent / "src"
SETTING = {"batch_size": 8, "model": "a"}
RUNS = [(0.1, 0), (0.1, 1), (0.2, 0)]


def figures(seed=0, runs=3, epochs=5):
    rng = np.random.default_rng(seed)
    return {name: rng.random((epochs, runs), dtype=np.float32) for name in ("loss", "accuracy")}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.sqlite"


@pytest.mark.parametrize("on_disk", [True, False])
def test_what_was_written_comes_back_bit_for_bit(path, on_disk):
    written = figures()
    written["loss"][2, 1] = np.nan
    with Store(path if on_disk else None) as store:
        assert store.missing(SETTING, RUNS) == RUNS
        store.add(SETTING, RUNS, written)
        assert store.missing(SETTING, [*RUNS, (0.4, 0)]) == [(0.4, 0)]
        assert store.missing({**SETTING, "batch_size": 9}, RUNS) == RUNS
        read = store.figures(SETTING, ["loss", "accuracy"], RUNS[::-1])
        assert len(store) == 3
    for name, values in written.items():
        np.testing.assert_array_equal(read[name], values[:, ::-1])


def test_a_run_that_is_there_already_stays_as_it_is(path):
    with Store(path) as store:
        store.add(SETTING, RUNS, first := figures(0))
        store.add(SETTING, RUNS, figures(1))
        np.testing.assert_array_equal(store.figures(SETTING, ["accuracy", "loss"], RUNS)["loss"], first["loss"])
        assert len(store) == 3


def test_a_run_that_is_not_there_is_named(path):
    with Store(path) as store, pytest.raises(StoreError, match=r"learning rate 0\.1 with seed 0 is not there"):
        store.figures(SETTING, ["loss"], RUNS)


def test_a_flipped_bit_is_noticed_and_the_run_named(path):
    with Store(path) as store:
        store.add(SETTING, RUNS, figures())
    with sqlite3.connect(path) as database:
        (content,) = database.execute("SELECT figures FROM runs WHERE seed = 1").fetchone()
        spoiled = bytes([*content[:-6], content[-6] ^ 1, *content[-5:]])
        database.execute("UPDATE runs SET figures = ? WHERE seed = 1", [spoiled])
    database.close()
    with Store(path) as store, pytest.raises(StoreError, match=r"damaged: the run at learning rate 0\.1 with seed 1"):
        store.figures(SETTING, ["accuracy", "loss"], RUNS)


def test_a_run_under_another_seed_is_noticed(path):
    with Store(path) as store:
        store.add(SETTING, RUNS, figures())
    with sqlite3.connect(path) as database:
        database.execute("UPDATE runs SET seed = 7 WHERE seed = 1")
    database.close()
    with Store(path) as store, pytest.raises(StoreError, match="seed 7 is not what was written"):
        store.figures(SETTING, ["accuracy", "loss"], [(0.1, 7)])


def test_a_file_that_lost_its_end_is_noticed(path):
    with Store(path) as store:
        store.add(SETTING, [(0.1, seed) for seed in range(64)], figures(runs=64, epochs=100))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match=r"runs\.sqlite is damaged.*Put a copy in its place, or delete it"):
        Store(path)


@pytest.mark.parametrize("content", [b"Age,EstimatedSalary\n19,19000\n" * 100, b"SQLite format 3\0 and no more"])
def test_a_file_of_another_kind_is_refused_and_kept(path, content):
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"runs\.sqlite is damaged: file is not a database"):
        Store(path)
    assert path.read_bytes() == content


def test_another_database_is_refused_and_kept(path):
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE mine (a)")
    database.close()
    content = path.read_bytes()
    with pytest.raises(StoreError, match="an SQLite database, but not a store of runs"):
        Store(path)
    assert path.read_bytes() == content


def test_a_folder_is_no_store(tmp_path):
    with pytest.raises(StoreError, match="cannot be used: unable to open database file"):
        Store(tmp_path)


WRITER = """
import sys, numpy as np
from batchlab.study.store import Store
first, blocks = int(sys.argv[2]), int(sys.argv[3])
with Store(sys.argv[1]) as store:
    print("ready", flush=True)
    for block in range(blocks):
        print(block, flush=True)
        runs = [(0.1, first + 16 * block + seed) for seed in range(16)]
        store.add({"a": 1}, runs, {"loss": np.tile(np.float32([s for _, s in runs]), (50, 1))})
"""


def writer(path, first, blocks):
    command = [sys.executable, "-c", WRITER, str(path), str(first), str(blocks)]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(SRC)}, stdout=subprocess.PIPE, text=True)


def test_several_processes_create_and_fill_one_store(path):
    processes = [writer(path, first, 20) for first in (0, 160, 1000, 1000)]  # the last two write the same runs
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0] * 4
    expected = [*range(480), *range(1000, 1320)]
    with Store(path) as store:
        assert len(store) == len(expected)
        losses = store.figures({"a": 1}, ["loss"], [(0.1, seed) for seed in expected])["loss"]
    np.testing.assert_array_equal(losses[0], expected)


def test_a_killed_process_leaves_whole_blocks(path):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(10):
        process = writer(path, 16 * 2000 * len(found), 2000)
        for _ in range(2 + rng.integers(40)):  # it says what it begins to write
            process.stdout.readline()
        time.sleep(rng.uniform(0, 0.002))  # into the block, or between two
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with Store(path) as store:
            found.append(len(store))
    assert all(count % 16 == 0 for count in found)
    assert len(set(found)) > 5, "the kills came before anything was written"
