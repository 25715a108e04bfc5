"""A sweep gives what `fit_seeds` gives, trains nothing twice, and gives the same table however often it is killed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import sweep_process
from dask import distributed

from batchlab.models import OPTIMIZERS, build_model
from batchlab.study import sweep as module
from batchlab.study.sweep import sweep, sweep_settings
from batchlab.training import fit_seeds

X, Y = sweep_process.X, sweep_process.Y
GRID = {"batch_size": [8, 48], "learning_rate": [0.01, 0.1], "seed": 3, "epochs": 4, "validation_split": 0.2}
KILLS = int(os.environ.get("BATCHLAB_KILLS", "3"))


@pytest.fixture
def trained(monkeypatch):
    """The runs that are trained."""
    runs = []
    train = module._train

    def noted(task, x, y):
        runs.extend((task.setting.run["batch_size"], *run) for run in task.runs)
        return train(task, x, y)

    monkeypatch.setattr(module, "_train", noted)
    return runs


@pytest.mark.parametrize(
    ("chosen", "batch_sizes"),
    [(["SGD", "Adam"], [48]), pytest.param(list(OPTIMIZERS), [8, 48], marks=pytest.mark.thorough)],
)
def test_a_sweep_gives_what_fit_seeds_gives(chosen, batch_sizes):
    frame = sweep(build_model, X, Y, GRID | {"batch_size": batch_sizes, "optimizer": chosen, "hidden": (4,)})
    assert list(frame)[:6] == ["optimizer", "batch_size", "learning_rate", "seed", "epoch", "updates"]
    assert len(frame) == len(chosen) * len(batch_sizes) * 2 * 3 * 4
    for (optimizer, batch_size), runs in frame.groupby(["optimizer", "batch_size"]):
        alone = fit_seeds(
            lambda optimizer=optimizer: build_model((4,), optimizer=optimizer),
            X, Y, seeds=3, batch_size=batch_size, epochs=4, learning_rates=[0.01, 0.1], validation_split=0.2,
        )  # fmt: skip
        pd.testing.assert_frame_equal(runs[list(alone)].reset_index(drop=True), alone, rtol=1e-5, atol=1e-6)


def test_the_optimizers_own_rate_and_its_epochs_kept(tmp_path):
    grid = {"batch_size": 8, "epochs": [3, 6], "seed": [5, 9]}
    frame = sweep(build_model, X, Y, grid, store=tmp_path / "s", kept_epochs=[2, 3, 6])
    assert "learning_rate" not in frame and frame["epochs"].unique().tolist() == [3, 6]
    assert frame.groupby(["epochs", "seed"])["epoch"].agg(list).tolist() == [[2, 3]] * 2 + [[2, 3, 6]] * 2
    alone = fit_seeds(build_model, X, Y, seeds=[5, 9], batch_size=8, epochs=6)
    kept = alone[alone["epoch"].isin([2, 3, 6])]["loss"]
    np.testing.assert_allclose(frame[frame["epochs"] == 6]["loss"], kept, rtol=1e-5)


def test_nothing_is_trained_twice(tmp_path, trained):
    grid = GRID | {"batch_size": 48}
    first = sweep(build_model, X, Y, grid, store=tmp_path / "s")
    assert len(trained) == len(set(trained)) == 6
    again = sweep(build_model, X, Y, grid, store=tmp_path / "s")
    assert len(trained) == 6
    pd.testing.assert_frame_equal(again, first, check_exact=True)
    sweep(build_model, X, Y, grid | {"seed": 5, "learning_rate": [0.01, 0.05, 0.1]}, store=tmp_path / "s")
    assert len(trained) == len(set(trained)) == 3 * 5  # 3 of 5 seeds at 2 of 3 rates were there
    both = sweep(build_model, X, Y, [grid, grid], store=tmp_path / "t")
    assert len(both) == 2 * len(first) and len(trained) == 15 + 6  # two grids that share their runs


CHANGES = {
    "a row": {"x": X + np.float32(1e-6)},
    "a target": {"y": 1 - Y},
    "the epochs": {"epochs": 5},
    "the split": {"validation_split": 0.25},
    "the order": {"shuffle": False},
    "the weights": {"sample_weight": np.ones(len(Y), np.float32)},
    "the layers": {"hidden": (10, 9)},
    "the optimizer": {"optimizer": "momentum"},
    "the epochs kept": {"kept_epochs": [4]},
}


QUICK = ("a row", "the epochs", "the epochs kept")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(change, id=name, marks=[] if name in QUICK else pytest.mark.thorough)
        for name, change in CHANGES.items()
    ],
)
def test_whatever_determines_a_run_makes_it_another_run(tmp_path, trained, change):
    grid = GRID | {"batch_size": 48, "seed": 1, "learning_rate": [0.01]}
    sweep(build_model, X, Y, grid, store=tmp_path / "s")
    change = dict(change)
    x, y, kept = change.pop("x", X), change.pop("y", Y), change.pop("kept_epochs", None)
    sweep(build_model, x, y, grid | change, store=tmp_path / "s", kept_epochs=kept)
    assert len(trained) == 2


def test_names_of_layers_and_a_rate_that_the_grid_replaces_make_no_other_run(tmp_path, trained):
    def other():
        return build_model(name="another", optimizer=keras.optimizers.RMSprop(0.5))

    grid = GRID | {"batch_size": 48, "seed": 1}
    sweep(build_model, X, Y, grid, store=tmp_path / "s")
    sweep(other, X, Y, grid, store=tmp_path / "s")
    assert len(trained) == 2


def test_versions_make_another_run(tmp_path, trained, monkeypatch):
    grid = GRID | {"batch_size": 48, "seed": 1, "learning_rate": 0.1}
    sweep(build_model, X, Y, grid, store=tmp_path / "s")
    monkeypatch.setattr("batchlab.study.grid._versions", lambda: {"tensorflow": "99"})
    sweep(build_model, X, Y, grid, store=tmp_path / "s")
    assert len(trained) == 2


def test_runs_that_diverge_are_kept_as_nan_without_a_warning(tmp_path, recwarn):
    grid = GRID | {"learning_rate": [1e12], "optimizer": "SGD", "hidden": (), "epochs": 30}
    frame = sweep(lambda **how: diverging(**how), X, Y, grid, store=tmp_path / "s")
    assert frame["loss"].isna().any() and not [w for w in recwarn if "NaN" in str(w.message)]


def diverging(**how):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4, "linear"), keras.layers.Dense(1)])
    model.compile(how["optimizer"], "mse", metrics=["mae"])
    return model


def test_settings_come_one_by_one():
    found = list(sweep_settings(build_model, X, Y, GRID))
    assert [labels for labels, _ in found] == [{"batch_size": 8}, {"batch_size": 48}]
    whole = pd.concat([frame for _, frame in found], ignore_index=True)
    pd.testing.assert_frame_equal(whole, sweep(build_model, X, Y, GRID), check_exact=True)


def test_the_bar_counts_all_epochs(capsys):
    sweep(build_model, X, Y, GRID, verbose=1)
    assert "48/48" in capsys.readouterr().out


def own_loss(y, predicted):
    return keras.ops.mean((y - predicted) ** 2)


def own_code():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", own_loss)
    return model


@pytest.mark.parametrize(
    ("change", "error", "what"),
    [
        ({"batch_size": []}, ValueError, "'batch_size' has no value"),
        ({"batch_size": [8, 8]}, ValueError, "'batch_size' holds a value twice"),
        ({"batch_size": 2.5}, TypeError, "`batch_size` is 2.5"),
        ({"epochs": 0}, ValueError, "`epochs` is 0"),
        ({"learning_rate": [0.1, -1]}, ValueError, r"`learning_rate\[1\]` is -1"),
        ({"learning_rate": ["0.1"]}, TypeError, r"`learning_rate\[0\]` is '0.1'"),
        ({"seed": 0}, ValueError, "`seed` is 0"),
        ({"seed": [1, 1]}, ValueError, "'seed' holds a value twice"),
        ({"seed": [2**63]}, ValueError, "from 0 to 9223372036854775807"),
        ({"colour": "red"}, TypeError, "unexpected keyword argument 'colour'"),
        ({"validation_split": 1.5}, ValueError, "`validation_split` is 1.5"),
    ],
)
def test_nonsense_in_a_grid_is_refused_before_anything_is_trained(trained, change, error, what):
    with pytest.raises(error, match=what):
        sweep(build_model, X, Y, GRID | change)
    assert not trained


def test_what_a_grid_needs_is_named():
    with pytest.raises(TypeError, match="the grid has no 'epochs'"):
        sweep(build_model, X, Y, {"batch_size": 8})
    with pytest.raises(ValueError, match=r"none of the epochs to keep, \[9\], is within the 4"):
        sweep(build_model, X, Y, GRID, kept_epochs=[9])


def test_a_model_with_code_of_its_own_is_refused():
    with pytest.raises(ValueError, match="the model has code of its own"):
        sweep(own_code, X, Y, GRID)


# --- killed, and on a cluster ------------------------------------------------------------------------


def started(folder):
    command = [sys.executable, sweep_process.__file__, str(folder / "runs.sqlite"), str(folder / "result")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return sweep_process.run(tmp_path_factory.mktemp("undisturbed") / "runs.sqlite")


@pytest.mark.thorough
def test_a_sweep_killed_again_and_again_ends_with_the_table_of_an_undisturbed_one(tmp_path, undisturbed):
    # Moments are drawn from how long a whole sweep takes here, so that a slow machine is killed as often within it.
    whole = tmp_path / "whole"
    whole.mkdir()
    process = started(whole)
    process.stdout.readline()
    begin = time.perf_counter()
    assert process.wait() == 0
    seconds = time.perf_counter() - begin
    rng = np.random.default_rng(3)
    kills = 0
    while kills < KILLS or process.returncode:
        process = started(tmp_path)
        process.stdout.readline()
        if kills < KILLS:
            try:
                process.wait(timeout=rng.uniform(0, seconds))
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
            else:  # it came to its end first: begin anew
                for file in tmp_path.glob("r*"):
                    file.unlink()
        assert process.wait() in (0, -9)
    for place in (tmp_path, whole):
        pd.testing.assert_frame_equal(pd.read_pickle(place / "result"), undisturbed, check_exact=True)


@pytest.mark.thorough
def test_two_workers_of_which_one_is_killed_give_the_same_table(tmp_path, undisturbed, monkeypatch):
    folders = [Path(module.__file__).parents[2], Path(__file__).parent]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, folders)))  # of the workers
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, processes=True
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        killed = []

        class Killer(module.Store):
            def add(self, *arguments):
                super().add(*arguments)
                if not killed:  # the first block is stored: both workers are busy with the next ones
                    worker = next(iter(cluster.workers.values()))
                    killed.append(worker.process.pid)
                    os.kill(worker.process.pid, 9)

        monkeypatch.setattr(module, "Store", Killer)
        frame = sweep_process.run(tmp_path / "runs.sqlite", client)
    assert killed
    pd.testing.assert_frame_equal(frame, undisturbed, check_exact=True)
