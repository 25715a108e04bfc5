import sys

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from batchlab import processes
from batchlab.ideas.checkpointing import deep_model, matrix_products, peak_memory, step_seconds, training_step


def plan(**changes):
    rows = {"series": "stored", "depth": [4, 8], "units": 32, "batch_size": 64, "segment": 0}
    return pd.DataFrame(rows | changes)


def gradients(model, x):
    @tf.function
    def differentiate():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(x, training=True) ** 2)
        return tape.gradient(loss, model.trainable_weights)

    return differentiate()


@pytest.mark.parametrize("segment", [1, 3, 7])
def test_recomputation_changes_neither_outputs_nor_gradients(segment):
    x = np.random.default_rng(1).standard_normal((16, 8)).astype("float32")
    stored, recomputed = deep_model(7, 8), deep_model(7, 8, segment=segment)
    assert stored.count_params() == recomputed.count_params() == 7 * (8 * 8 + 8)
    np.testing.assert_array_equal(stored(x), recomputed(x))
    ours, theirs = gradients(recomputed, x), gradients(stored, x)
    assert any(np.abs(g).max() > 0 for g in theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_segments_run_again_on_the_way_back():
    # Forward 6; back 6 for the weights and 5 for the activations, since nobody asks for the gradient of the rows.
    assert matrix_products(deep_model(6, 8)) == 6 + 6 + 5
    # A recomputed segment runs its 6 once more in all, and gives the gradient of its input unasked.
    assert matrix_products(deep_model(6, 8, segment=3)) == 6 + 6 + 6 + 6


def test_a_step_descends():
    model = deep_model(3, 8)
    before = [w.numpy().copy() for w in model.trainable_weights]
    step = training_step(model)
    step(tf.random.stateless_normal((32, 8), seed=(0, 0)))
    assert any(not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_seconds_of_each_model_and_repeat():
    seconds = step_seconds({"stored": deep_model(2, 8), "again": deep_model(2, 8, segment=1)}, batch_size=8, repeats=3)
    assert seconds.shape == (3, 2)
    assert (seconds > 0).all(axis=None)


def test_the_peak_grows_with_depth_and_recomputation_lowers_it():
    shape = {"depth": [4, 24], "units": 64, "batch_size": 16384}
    wanted = pd.concat([plan(**shape), plan(**shape | {"series": "recomputed", "segment": 4})], ignore_index=True)
    found = peak_memory(wanted)
    assert found["activations"].tolist() == [16, 96, 16, 96]  # layers of 4 MiB
    stored, recomputed = (found.loc[found["series"] == name, "peak"].to_numpy() for name in ("stored", "recomputed"))
    # 20 layers' outputs, 80 MiB, are kept between the two depths; in segments of 4 about a quarter of them. Buffers
    # come and go while the cores are shared with other work, so the peak moves by some layers.
    assert stored[1] - stored[0] == pytest.approx(80, rel=0.5)
    assert recomputed[1] - recomputed[0] < 0.6 * (stored[1] - stored[0])


@pytest.mark.thorough
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits what a process may hold")
def test_a_limit_refuses_what_recomputation_fits():
    shape = {"depth": [4, 40], "units": 64, "batch_size": 16384}
    wanted = pd.concat([plan(**shape), plan(**shape | {"series": "recomputed", "segment": 4})], ignore_index=True)
    found = peak_memory(wanted, allowed=120)
    assert found["peak"].notna().tolist() == [True, False, True, True]
    assert found["peak"].max() < 120 < 160 == found["activations"].max()
    assert (found["limit"] > 120).all()


@pytest.mark.thorough
def test_models_and_graphs_are_not_counted():
    found = peak_memory(plan(depth=[8, 32], batch_size=1))
    assert found["limit"].isna().all()
    assert (found["peak"].abs() < 8).all()  # activations of 1 and 4 KiB; 32 layers with their graph take some 20 MiB


@pytest.mark.parametrize(
    ("call", "error", "complaint"),
    [
        (lambda: deep_model(0, 8), ValueError, "`depth` is 0; give a whole number of at least 1"),
        (lambda: deep_model(2.0, 8), TypeError, r"`depth` is 2\.0; give a whole number"),
        (lambda: deep_model(2, True), TypeError, "`units` is True"),
        (lambda: deep_model(4, 8, segment=5), ValueError, "`segment` is 5; give a whole number from 1 to 4"),
        (lambda: step_seconds({}, batch_size=0, repeats=1), ValueError, "`batch_size` is 0"),
        (lambda: step_seconds({}, batch_size=1, repeats=0), ValueError, "`repeats` is 0"),
        (lambda: peak_memory(plan().drop(columns="units")), ValueError, "no column units"),
        (lambda: peak_memory(plan(depth=[8, 4])), ValueError, "series 'stored' does not rise in depth"),
        (lambda: peak_memory(plan(segment=6)), ValueError, "`segment` is 6; give a whole number from 1 to 4"),
        (lambda: peak_memory(plan(batch_size=0.5)), TypeError, r"`batch_size` is 0\.5"),
    ],
)
def test_bad_input_is_refused(call, error, complaint):
    with pytest.raises(error, match=complaint):
        call()


def test_a_worker_that_fails_is_named_with_its_reason(monkeypatch, tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 'out of memory' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(processes.sys, "executable", str(script))
    with pytest.raises(RuntimeError, match="series 'stored' failed: out of memory"):
        peak_memory(plan())
