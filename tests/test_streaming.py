"""A table in a file: streamed rows are its rows, training on them is training on it, and memory stays bounded."""

import sys

import numpy as np
import pytest

from batchlab.models import build_model
from batchlab.study.streaming import fresh_trainings, read, stream, write_table

GROUPS = (70, 40, 90)
X = np.arange(3 * 200, dtype=np.float32).reshape(200, 3)
Y = (np.arange(200) % 3 == 0).astype(np.float32)


def in_groups(x, y, sizes):
    ends = np.cumsum(sizes)
    return zip(np.split(x, ends[:-1]), np.split(y, ends[:-1]), strict=True)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "rows.parquet"
    write_table(path, in_groups(X, Y, GROUPS))
    return path


def batches(dataset):
    return [(x.numpy(), y.numpy()) for x, y in dataset]


@pytest.mark.parametrize("batch_size", [1, 32, 100, 250])
def test_batches_are_the_files_rows_in_order_across_groups(table, batch_size):
    found = batches(stream(table, batch_size=batch_size))
    full, rest = divmod(200, batch_size)
    assert [len(x) for x, _ in found] == [batch_size] * full + [rest] * (rest > 0)
    np.testing.assert_array_equal(np.concatenate([x for x, _ in found]), X)
    np.testing.assert_array_equal(np.concatenate([y for _, y in found]), Y)


def test_a_shuffled_epoch_holds_every_row_once_in_an_order_of_its_own(table):
    dataset = stream(table, batch_size=32, seed=5)
    orders = []
    for _ in range(2):
        x, y = (np.concatenate(part) for part in zip(*batches(dataset), strict=True))
        order = (x[:, 0] / 3).astype(int)
        np.testing.assert_array_equal(np.sort(order), np.arange(200))
        np.testing.assert_array_equal(x, X[order])
        np.testing.assert_array_equal(y, Y[order])
        orders.append(order)
    assert not np.array_equal(*orders)
    first = np.concatenate([x for x, _ in batches(stream(table, batch_size=32, seed=5))])[:, 0] / 3
    np.testing.assert_array_equal(first, orders[0])
    other = np.concatenate([x for x, _ in batches(stream(table, batch_size=32, seed=6))])[:, 0] / 3
    assert not np.array_equal(other, orders[0])


@pytest.mark.parametrize("rows", [None, 1, 70, 71, 200])
def test_reading_gives_the_first_rows(table, rows):
    x, y = read(table, rows=rows)
    np.testing.assert_array_equal(x, X[:rows])
    np.testing.assert_array_equal(y, Y[:rows])
    assert x.flags.c_contiguous


@pytest.mark.parametrize("batch_size", [7, 100])
def test_training_on_the_stream_is_training_on_the_table(tmp_path, batch_size):
    x = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)
    write_table(tmp_path / "rows.parquet", in_groups(x, Y, GROUPS))
    streamed, in_memory = (build_model(features=3, seed=1) for _ in range(2))
    streamed.fit(stream(tmp_path / "rows.parquet", batch_size=batch_size), epochs=3, shuffle=False, verbose=0)
    in_memory.fit(x, Y, batch_size=batch_size, epochs=3, shuffle=False, verbose=0)
    for ours, theirs in zip(streamed.get_weights(), in_memory.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.thorough
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits what a process may hold")
def test_a_table_beyond_the_limit_is_streamed_and_cannot_be_read(tmp_path):
    rows, features = 2048, 256  # 2 MiB a group
    group = np.asfortranarray(np.random.default_rng(0).standard_normal((rows, features), dtype=np.float32))
    path = tmp_path / "rows.parquet"
    write_table(path, ((group, np.zeros(rows, np.float32)) for _ in range(150)))
    assert path.stat().st_size > 300 * 2**20
    how = [
        {"batch_size": 1024, "streamed": True, "rows": 150 * rows},
        {"batch_size": 1024, "streamed": False, "rows": 20 * rows},
        {"batch_size": 1024, "streamed": True, "rows": rows},
        {"batch_size": 1024, "streamed": False, "rows": 150 * rows},
    ]
    found = fresh_trainings(path, how, hidden=(8,), allowed=256)
    assert found["failed"].tolist() == ["", "", "", "MemoryError"]
    assert found["seconds"].notna().tolist() == [True, True, True, False]
    assert found["peak"][1] > 80 > found["peak"][0]  # 40 MiB in memory, and copies of them
    assert found["peak"][2] > 1  # what was kept from the one before counts: a bound from above
    assert (found["peak"] < 256).all()
    assert found["limit"].nunique() == 1
    unlimited = fresh_trainings(path, how[-1:], hidden=(8,))
    assert unlimited["failed"].tolist() == [""]
    assert unlimited["peak"].item() > 300
    assert unlimited["limit"].isna().all()


@pytest.mark.parametrize(
    ("call", "error", "complaint"),
    [
        (lambda path: stream(path, batch_size=0), ValueError, "`batch_size` is 0"),
        (lambda path: stream(path, batch_size=2, seed=-1), ValueError, "`seed` is -1"),
        (lambda path: stream(path.with_name("none"), batch_size=2), FileNotFoundError, "none"),
        (lambda path: read(path, rows=201), ValueError, "`rows` is 201; give a whole number from 1 to 200"),
        (lambda path: write_table(path.with_name("empty"), []), ValueError, "no group of rows for empty"),
        (
            lambda path: write_table(path.with_name("two"), [(X, Y), (X[:, :2], Y)]),
            ValueError,
            "group 2 has 2 features, the first one 3",
        ),
    ],
)
def test_bad_input_is_refused(table, call, error, complaint):
    with pytest.raises(error, match=complaint):
        call(table)
