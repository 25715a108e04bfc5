"""One pass over a table of known Bayes loss: excess loss, spread between batch sizes, rows and seconds needed."""

import threading

import keras
import numpy as np
import pandas as pd
import psutil
import pytest

from batchlab.cores import cores
from batchlab.models import build_model
from batchlab.study.growth import after_one_pass, after_passes, rows_needed, seconds_needed, spread, tuned
from batchlab.study.synthetic import Waves
from batchlab.training import fit

TABLE = Waves(1, steepness=2)


def build():
    return build_model(optimizer="sgd")


def test_the_excess_loss_is_the_mean_divergence_from_the_true_chances():
    [found] = after_one_pass(build, TABLE, rows=300, batch_size=32, learning_rates=[0.5], seeds=1).itertuples()
    x, y = TABLE.draw(300, seed=0)
    model = build_model(optimizer=keras.optimizers.SGD(0.5), seed=0)
    fit(model, x, y, batch_size=32, epochs=1, seed=0)
    held_out, _ = TABLE.draw(4096, 2**31)
    true, told = (p.astype(np.float64) for p in (TABLE.chances(held_out), model.predict(held_out, verbose=0)[:, 0]))
    divergence = true * np.log(true / told) + (1 - true) * np.log((1 - true) / (1 - told))
    assert found.excess == pytest.approx(divergence.mean(), abs=1e-5)
    assert (found.rows, found.waves, found.batch_size) == (300, 1, 32)


@pytest.mark.thorough
def test_more_rows_leave_less_to_be_learned():
    few, many = (
        after_one_pass(build, TABLE, rows=rows, batch_size=16, learning_rates=[0.1, 0.2], seeds=16)
        for rows in (100, 3000)
    )
    assert (few["excess"] > 0).all() and (many["excess"] > 0).all()
    assert many["excess"].median() < 0.3 * few["excess"].median()
    assert len(many) == 32


@pytest.mark.thorough
def test_several_settings_give_what_each_gives_alone_and_keep_to_a_core_each(monkeypatch):
    shared = {"table": TABLE, "learning_rates": [0.1, 0.3], "seeds": 10}  # enough runs for a chunk on every core
    settings = [shared | {"rows": rows, "batch_size": size} for rows, size in ((200, 8), (90, 30), (150, 1))]
    alone = [after_one_pass(build, **setting).drop(columns="peak") for setting in settings]

    seen, draw = [], Waves.draw

    def watched(*arguments, **named):
        seen.append((threading.get_ident(), cores()))
        return draw(*arguments, **named)

    monkeypatch.setattr(Waves, "draw", watched)
    together = after_passes(build, settings)
    for ours, theirs in zip(together, alone, strict=True):
        pd.testing.assert_frame_equal(ours.drop(columns="peak"), theirs, rtol=1e-5)
    assert {share for _, share in seen} == {1} and len({thread for thread, _ in seen}) <= 2


def test_the_tuned_rate_is_the_one_with_the_least_median():
    frame = after_one_pass(build, TABLE, rows=300, batch_size=32, learning_rates=[0.01, 0.3, 30.0], seeds=8)
    best, excess = tuned(frame)
    medians = frame.groupby("learning_rate")["excess"].median()
    assert best.grid_rate == pytest.approx(0.3) == medians.idxmin()
    assert best.on_edge == 0
    assert np.median(excess) == medians.min()
    assert len(excess) == 8


def test_the_spread_covers_the_true_difference():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(50):
        noise = generator.standard_normal((3, 64)) * 0.05
        found = spread(dict(zip((1, 32, 250), np.array([[0.1], [0.3], [0.5]]) + noise, strict=True)))
        assert found.low < found.value < found.high
        hits += found.low <= 0.4 <= found.high
    assert hits > 42  # 95 % of 50, less some four standard deviations


def test_rows_needed_lie_on_the_straight_line_through_logarithms():
    rows = [100, 1000, 10_000]
    np.testing.assert_allclose(rows_needed(rows, 5 / np.sqrt(rows), 0.1), 2500)  # a power law is such a line
    assert rows_needed(rows, [0.5, 0.1, 0.01], 0.1) == pytest.approx(1000)
    assert rows_needed(rows, [0.5, 0.2, 0.15], 0.1) == np.inf
    assert np.isnan(rows_needed(rows, [0.05, 0.02, 0.01], 0.1))
    assert rows_needed(rows, [0.5, 0.05, 0.5], 0.1) < 1000  # the first time, though it rises again
    many = rows_needed(rows, [[0.5, 0.1, 0.01], [0.5, 0.5, 0.1]], 0.1)
    np.testing.assert_allclose(many, [1000, 10_000])


def test_seconds_are_rows_over_speed():
    rows = [100, 1000, 10_000]
    fast, slow = 5 / np.sqrt(rows), 10 / np.sqrt(rows)
    excess = {size: [np.full(9, value) for value in curve] for size, curve in ((1, fast), (250, slow))}
    rates = pd.DataFrame({1: [50.0] * 7, 250: [5000.0] * 7})
    seconds, ratio = seconds_needed(rows, excess, rates, 0.2)
    assert seconds[1] == pytest.approx((625 / 50,) * 3)
    assert seconds[250] == pytest.approx((2500 / 5000,) * 3)
    assert ratio.value == pytest.approx(25)


def test_noise_in_seeds_and_rounds_widens_the_interval():
    generator = np.random.default_rng(0)
    excess = {
        size: [value * np.exp(0.3 * generator.standard_normal(64)) for value in (0.5, 0.1, 0.02)] for size in (1, 250)
    }
    steady = pd.DataFrame({1: [100.0] * 9, 250: [1000.0] * 9})
    shaky = steady * np.exp(0.3 * generator.standard_normal((9, 2)))
    widths = []
    for rates in (steady, shaky):
        ratio = seconds_needed([100, 1000, 10_000], excess, rates, 0.05)[1]
        assert ratio.low < ratio.value < ratio.high
        widths.append(np.log(ratio.high / ratio.low))
    assert 0.05 < widths[0] < widths[1]


@pytest.mark.parametrize(
    ("call", "error", "complaint"),
    [
        (
            lambda: after_one_pass(build, TABLE, rows=0, batch_size=1, learning_rates=[1.0], seeds=1),
            ValueError,
            "`rows` is 0",
        ),
        (lambda: rows_needed([1, 2], [0.2, 0.1], 0), ValueError, "`target` is 0"),
        (lambda: rows_needed([2, 1], [0.2, 0.1], 0.1), ValueError, "2 rising numbers of rows do not match"),
        (lambda: rows_needed([1, 2, 3], [0.2, 0.1], 0.1), ValueError, "3 rising numbers of rows do not match"),
        (
            lambda: seconds_needed([1, 2], {8: [[0.5], [0.4]]}, pd.DataFrame({8: [1.0]}), 0.1),
            ValueError,
            "the curve of batch size 8 does not cross 0.1",
        ),
    ],
)
def test_bad_input_is_refused(call, error, complaint):
    with pytest.raises(error, match=complaint):
        call()


def test_the_memory_of_a_pass_is_that_of_the_process():
    resident = psutil.Process().memory_info().rss / 2**20
    frame = after_one_pass(build, TABLE, rows=100_000, batch_size=250, learning_rates=[0.1], seeds=16)
    assert 0.9 * resident < frame["peak"].unique().item() < resident + 1000
