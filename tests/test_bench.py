"""The benchmark: its C loop does what Keras does, and its quick form measures everybody."""

import json
import platform
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import helpers

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import bench  # noqa: E402
import contestants  # noqa: E402
import devices  # noqa: E402
import networks  # noqa: E402

ROWS = 320
HAS_COMPILER = any(map(shutil.which, ("cc", "gcc", "clang")))
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="no C compiler")


@pytest.fixture(scope="module")
def table():
    x, y = helpers.scale_features(helpers.load_ads(ROOT / "data" / "stand_in.csv"))
    return x[:ROWS], y[:ROWS]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return contestants.build_c(tmp_path_factory.mktemp("c"))[0]


#: Seconds, of two rounds.
NETWORKS = [
    {f"{what}, {kind}": 0.2 for what in ("fit", "fit_seeds", "first fit") for kind in networks.KINDS}
    | {"fit, with validation": 0.1, "fit, EarlyStopping": 0.3, "fit_seeds, Dropout": 0.6, "fit_seeds, images": 0.2}
    | {"fit, images, one run after the other": 1.0}
] * 2
CALLS = [
    {"model.fit": 5.0, "fit": 0.1, "model.fit, validated": 4.0, "fit, validated": 1.0}
    | {"check": 0.2, "model.fit, first epoch": 10.0},
] * 2


# --- the C loop --------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize(
    ("batch_size", "seed"),
    [(32, 3), *(pytest.param(size, 0, marks=pytest.mark.thorough) for size in (1, 7, 250, ROWS))],
)
def test_the_c_loop_equals_keras(table, library, batch_size, seed):
    # Seed 3 has a row whose logit is exactly 0 at the start, where max(logit, 0) has no derivative.
    x, y = table
    model = helpers.build_model(seed=seed)
    start = model.get_weights()
    loss, accuracy, flat = contestants.train_in_c(library, start, x, y, batch_size=batch_size, epochs=10)
    expected = model.fit(x, y, batch_size=batch_size, epochs=10, shuffle=False, verbose=0).history

    np.testing.assert_allclose(loss, expected["loss"], rtol=0, atol=1e-4)
    # A probability within rounding of 0.5 may fall on either side of it.
    np.testing.assert_allclose(accuracy, expected["accuracy"], rtol=0, atol=1.01 / ROWS)
    np.testing.assert_allclose(flat, np.concatenate([part.ravel() for part in model.get_weights()]), rtol=0, atol=1e-4)
    assert np.ptp(loss) > 0.01  # it has learned something over which to agree
    assert all(np.array_equal(*pair) for pair in zip(start, helpers.build_model(seed=seed).get_weights(), strict=True))


@needs_compiler
def test_the_c_loop_shuffles(table, library):
    x, y = table
    weights = helpers.build_model(seed=0).get_weights()

    def losses(batch_size, seed):
        return contestants.train_in_c(library, weights, x, y, batch_size=batch_size, epochs=10, seed=seed)[0]

    # In one batch of all rows the order cannot matter, if each row comes exactly once.
    np.testing.assert_allclose(losses(ROWS, 1), losses(ROWS, 0), rtol=0, atol=1e-6)
    assert np.array_equal(losses(1, 1), losses(1, 1))
    assert np.abs(losses(1, 1) - losses(1, 0)).max() > 1e-3
    assert np.abs(losses(1, 1) - losses(1, 2)).max() > 1e-3


@needs_compiler
def test_the_c_loop_refuses_another_network(table, library):
    with pytest.raises(ValueError, match="151 parameters"):
        contestants.train_in_c(library, helpers.build_model((5,)).get_weights(), *table, batch_size=1, epochs=1)


@needs_compiler
def test_the_c_loop_leaves_tiny_numbers_alone(table, library):
    weights = helpers.build_model(seed=0).get_weights()
    contestants.train_in_c(library, weights, *table, batch_size=32, epochs=1)
    assert np.float32(1e-30) * np.float32(1e-10) > 0  # for the rest of this process


def test_without_a_compiler_the_c_loop_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(contestants.Unavailable, match="no C compiler found"):
        contestants.build_c(tmp_path)


@needs_compiler
def test_a_compiler_that_fails_is_quoted(tmp_path, monkeypatch):
    monkeypatch.setattr(contestants, "C_FLAGS", ("-fno-such-flag-anywhere",))
    with pytest.raises(contestants.Unavailable, match=r"cannot build the loop: .*no-such-flag-anywhere"):
        contestants.build_c(tmp_path)


# --- measuring ---------------------------------------------------------------------------------------


def cell(name, *micros, cpu=None):
    """A cell of one step a sample."""
    wall = [1e-6 * value for value in micros]
    task = contestants.Task(lambda epochs: 0.5)
    return bench.Cell(name, 1, 1, 1, task, wall=wall, cpu=[1e-6 * value for value in cpu or micros])


def test_ratios_are_formed_within_rounds():
    cells = [
        cell("model.fit", 600, 1200, 900),
        cell("fit", 1, 2, 3),
        cell("C loop", 0.2, 0.5, 0.5),
        cell("fit_seeds, S = 128", 0.1, 0.6, 0.4, cpu=[0.2, 0.6, 0.8]),
    ]
    found = [target.record() for target in bench.targets(cells, [4.0, 5.0], CALLS, NETWORKS)]
    assert [(target["met"], target["samples"] and round(target["median"], 6)) for target in found] == [
        (False, 600),  # in two rounds of three
        (True, 5),
        (False, 0.8),
        (False, 1.2),
        (None, []),  # no cells of batch size 32 and 250
        (None, []),
        (True, 50),
        (False, 4),
        (True, 0.02),
        (True, 4.5),
        *[(True, 1)] * 3,
        (True, 3),
        *((True, 1), (False, 3), (True, 1)),
        (True, 0.2),
        *[(True, 1)] * 3,
    ]
    assert [target["rounds_reached"] for target in found][:10] == [2, 3, 1, 1, 0, 0, 2, 0, 2, 2]
    assert [round(value, 6) for value in found[1]["samples"]] == [5, 4, 6]
    assert (found[0]["min"], found[0]["max"]) == (pytest.approx(300), pytest.approx(600))


def test_what_was_not_measured_is_neither_met_nor_missed():
    met = [target.met for target in bench.targets([cell("model.fit", 400), cell("fit", 1)], [9.0], CALLS, NETWORKS)]
    assert met[:10] == [False, None, None, None, None, None, True, False, True, False]


def test_a_target_is_met_in_four_rounds_of_five():
    assert bench.Target("", 1, False, [0.5, 0.5, 0.5, 0.5, 2.0]).met is True
    assert bench.Target("", 1, False, [0.5, 0.5, 0.5, 2.0, 2.0]).met is False
    assert bench.Target("", 1, True, [2.0, 2.0, 2.0, 2.0, 0.5]).met is True
    assert bench.Target("", 1, True, [2.0, 2.0, 2.0, 0.5, 0.5]).met is False


def test_a_sample_lasts_long_enough_and_its_steps_are_counted(monkeypatch):
    now = {"epochs": 0, "seconds": 0.0}  # the clock stands still while nothing is trained
    clock = SimpleNamespace(perf_counter=lambda: now["seconds"], process_time=lambda: now["seconds"])
    monkeypatch.setattr(bench, "time", clock)

    def run(epochs):
        now["epochs"] += epochs
        now["seconds"] += 1e-4 * epochs
        return 0.5

    plan = bench.Plan(seconds=0.02, longest=50)
    measured = bench.Cell("any", 250, ROWS, 8, contestants.Task(run))
    measured.warm_up(plan)
    now["epochs"] = 0
    measured.sample()
    assert now["epochs"] == measured.epochs * measured.calls
    assert measured.epochs == 50  # the longest call: then calls are repeated
    assert measured.wall[0] == pytest.approx(plan.seconds)
    assert measured.steps == now["epochs"] * 2 * 8  # 250 + 70 rows make two batches


def test_three_significant_digits():
    assert [bench.short(value) for value in (0.06789, 1234.5, 12.345, 1)] == ["0.0679", "1230", "12.3", "1"]


@pytest.mark.parametrize(("number", "chosen"), [(1, "processor"), (5, "card")])
def test_beside_a_card_each_network_is_trained_on_both(number, chosen):
    chain = devices.CHAINS[number]  # without a card TensorFlow's own choice is the processor too
    cells = list(bench._cells(devices.contestants(chain), *chain.rows(), chain.batch_size, bench.QUICK, {}))
    records = []
    for one in cells:
        one.sample()
        assert 0 < one.loss < 1  # how many epochs are in a sample depends on the machine
        records.append({"network": chain.name, "operations": 7, "chosen": devices.choice(chain), **one.record()})
    names, figures = bench._devices(records).splitlines()
    for name in ("network", "operations", "model.fit", "fit, processor", "fit, card", "fit chooses"):
        assert name in names
    assert figures.split()[:4] == [chain.name, str(chain.batch_size), "7", chosen]


# --- the whole of it ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    command = [sys.executable, str(ROOT / "benchmarks" / "bench.py"), "--quick", "--output", str(folder)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


@pytest.mark.thorough
def test_quick_measures_everybody(quick):
    folder, shown = quick
    results = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
    everybody = [contestant.name for contestant in contestants.contestants(folder)]
    measured = {record["contestant"]: record for record in results["steps"]}
    assert sorted([*measured, *results["unavailable"]]) == sorted(everybody)
    assert set(results["unavailable"]) <= {"PyTorch", "JAX", *([] if HAS_COMPILER else ["C loop"])}
    assert all(name in shown for name in everybody)

    for record in results["steps"] + results["more_rows"]:
        for clock in ("wall_us_a_step", "cpu_us_a_step"):
            samples = record[clock]["samples"]
            assert len(samples) == results["rounds"]
            assert record[clock]["median"] == pytest.approx(statistics.median(samples))
        assert record["wall_us_a_step"]["min"] > 0
        assert 0.01 < record["loss_after_a_call"] < 1  # nats: it trains, and nothing has run away
    assert {record["contestant"] for record in results["more_rows"]} == {"model.fit", "fit"}
    assert bool(results["devices"]) == bool(results["machine"]["cards"])

    assert results["first_curve"]["stages"][0]["curve drawn"] < results["first_curve"]["seconds"]["median"]
    for target in results["targets"]:
        needs_c = "C loop" in target["name"]
        left_out = ("batch size 32", "batch size 250", ", BatchNormalization /", ", Dropout /")  # in quick mode
        is_measured = not any(part in target["name"] for part in left_out)
        assert target["met"] in ([True, False] if is_measured and (HAS_COMPILER or not needs_c) else [None])
        assert target["name"] in shown


@pytest.mark.thorough
def test_quick_draws_and_names_the_machine_but_no_place(quick):
    folder, _ = quick
    assert (folder / "bench.png").read_bytes().startswith(b"\x89PNG")
    text = (folder / "bench.json").read_text(encoding="utf-8")
    machine = json.loads(text)["machine"]
    assert machine["cores"] >= 1
    assert machine["processor"]
    assert str(ROOT) not in text
    assert str(folder) not in text
    assert not platform.node() or f'"{platform.node()}"' not in text


@pytest.mark.thorough
def test_the_table_says_who_was_absent(quick):
    results = json.loads((quick[0] / "bench.json").read_text(encoding="utf-8"))
    results["steps"] = [record for record in results["steps"] if record["contestant"] != "C loop"]
    results["unavailable"]["C loop"] = "no C compiler found"
    for target in results["targets"]:
        if "C loop" in target["name"]:
            target.update(samples=[], met=None)
    shown = bench.report(results)
    assert any("C loop" in line and "no C compiler found" in line for line in shown.splitlines())
    absent = [target["name"] for target in results["targets"] if target["met"] is None]
    assert shown.count("not measured") == len(absent) >= 5
