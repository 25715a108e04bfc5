"""Train the runs behind the comparison notebooks, 200,000 and more, and sum them up in data/sweep: `make sweep`.

Resumable: runs are kept in build/sweep.sqlite as they come, and a call trains what is missing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from batchlab.environment import prepare  # noqa: E402

prepare()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import tensorflow as tf  # noqa: E402

from batchlab.models import OPTIMIZERS, build_model  # noqa: E402
from batchlab.statistics import median, share  # noqa: E402
from batchlab.study.store import Store  # noqa: E402
from batchlab.study.sweep import sweep  # noqa: E402
from batchlab.study.tuning import Aim, Budget, Target, best_rate, widened  # noqa: E402
from batchlab.table.ads import fingerprint, load_ads  # noqa: E402
from batchlab.table.bundled import BUNDLED, load_bundled  # noqa: E402
from batchlab.table.scaling import scale_features, split_and_scale  # noqa: E402

RATES = 9  # at first, in steps of 2
# Powers of two about which the rates lie at batch size 32; at others they move with the root of the batch size.
CENTRES = {"SGD": 2.0**-2, "momentum": 2.0**-5, "RMSprop": 2.0**-6, "Adam": 2.0**-6}
EPOCHS, UPDATES = (20, 60), (320, 640)  # equal budgets at which batch sizes are compared


@dataclass(frozen=True)
class Study:
    """One table and its part of the sweep.

    Attributes:
        name: Of the table.
        x: Features of all rows, or of the training rows.
        y: Their targets.
        run: What else a run takes: which rows are held out.
        model: What `build_model` is given.
        optimizers: Their names.
        epochs: For each batch size how many.
        seeds: Runs of each setting and rate.
        aims: What a learning rate is tuned for.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    run: dict
    model: dict
    optimizers: Sequence[str]
    epochs: dict[int, int]
    seeds: int
    aims: dict[str, Aim]

    @property
    def rows(self) -> int:
        """Training rows."""
        return len(self.y) if "validation_data" in self.run else len(self.y) * 4 // 5

    def kept(self, batch_size: int) -> list[int]:
        """The epochs kept: all of the first ones, then in steps of 5 %, and those at which a budget ends."""
        most = self.epochs[batch_size]
        steps = math.ceil(self.rows / batch_size)
        grown = {round(1.05**power) for power in range(200)}
        ends = {*EPOCHS, *(round(updates / steps) for updates in UPDATES)}
        return sorted(epoch for epoch in {*range(1, 21), *grown, *ends, most} if 1 <= epoch <= most)

    def rates(self, optimizer: str, batch_size: int) -> list[float]:
        """The learning rates to begin with."""
        middle = round(math.log2(CENTRES[optimizer] * math.sqrt(batch_size / 32)))
        return [2.0 ** (middle + step) for step in range(-(RATES // 2), RATES // 2 + 1)]


def advertising(seeds: int) -> Study:
    """The documented experiment: its table, its split, its network."""
    table = load_ads()
    x, y = scale_features(table)
    print(f"Fingerprint of the table: {fingerprint(table)}", flush=True)
    epochs = {1: 60, 2: 60, 4: 60, 8: 100, 16: 150, 32: 200, 64: 300, 128: 400, 256: 500, 320: 640}
    aims: dict[str, Aim] = {
        "updates to a validation loss of 0.3": Target(0.3),
        "updates to a validation loss of 0.26": Target(0.26),
        "updates to a training loss of 0.25": Target(0.25, "loss"),
        **{f"validation loss after {most} epochs": Budget(most) for most in EPOCHS},
        **{f"validation loss after {most} updates": Budget(most, "updates") for most in UPDATES},
        **{f"training loss after {most} epochs": Budget(most, figure="loss") for most in EPOCHS},
    }
    return Study("ads", x, y, {"validation_split": 0.2}, {}, list(OPTIMIZERS), epochs, seeds, aims)


def bundled(name: str, seeds: int) -> Study:
    """A table that scikit-learn ships, a fifth of each class held out, scaled by the rest; a network of one layer."""
    table = load_bundled(name)
    split = split_and_scale(table.x, table.y)
    rows = len(split.y)
    sizes = [size for size in (1, 4, 16, 64, 256) if size < rows]
    epochs = {size: min(150, max(10, math.ceil(600 * size / rows))) for size in (*sizes, rows)}
    target = {"breast_cancer": 0.1, "digits": 0.2, "wine": 0.1}[name]
    aims = {
        f"updates to a validation loss of {target}": Target(target),
        "validation loss after 10 epochs": Budget(10),
    }
    model = {"features": table.x.shape[1], "classes": table.classes, "hidden": (16,)}
    run = {"validation_data": split.held_out}
    return Study(name, split.x, split.y, run, model, ["SGD", "Adam"], epochs, seeds, aims)


def trained(study: Study, optimizer: str, batch_size: int, store: Store | Path) -> pd.DataFrame:
    """Train the runs of one optimizer and batch size at as many learning rates as it takes."""

    def frame_of(rates: list[float]) -> pd.DataFrame:
        grid = {
            "batch_size": batch_size,
            "optimizer": optimizer,
            "learning_rate": rates,
            "seed": study.seeds,
            "epochs": study.epochs[batch_size],
            **study.model,
            **study.run,
        }
        return sweep(build_model, study.x, study.y, grid, store=store, kept_epochs=study.kept(batch_size))

    return widened(frame_of, study.rates(optimizer, batch_size), study.aims.values())


def summed_up(study: Study, optimizer: str, batch_size: int, frame: pd.DataFrame) -> tuple[list[dict], list[dict]]:
    """Return a record for each learning rate and aim, and one for the best learning rate of each aim."""
    place = {"table": study.name, "optimizer": optimizer, "batch_size": batch_size}
    last = frame[frame["epoch"] == frame["epoch"].max()].set_index(["learning_rate", "seed"])["loss"]
    settings, best = [], []
    for name, aim in study.aims.items():
        scores = aim(frame)
        for rate, of_rate in scores.groupby("learning_rate"):
            middle, reached = median(of_rate), share(int(np.isfinite(of_rate).sum()), len(of_rate))
            failed = int(last.loc[rate].isna().sum())
            settings.append(
                {**place, "aim": name, "learning_rate": rate, "runs": len(of_rate), "failed": failed}
                | {"reached": reached.value, "median": middle.value, "low": middle.low, "high": middle.high}
            )
        found = best_rate(scores)
        best.append(
            {**place, "aim": name}
            | (
                {}
                if found is None
                else {"rate": found.rate, "rate_low": found.low, "rate_high": found.high}
                | {"grid_rate": found.grid_rate, "on_edge": found.on_edge, "reached": found.reached}
                | {"score": found.score.value, "score_low": found.score.low, "score_high": found.score.high}
            )
        )
    return settings, best


def progress(studies: Sequence[Study], store: Store, calls: Path) -> Iterator[tuple[Study, str, int]]:
    """Go through all optimizers and batch sizes, say how far it is, and note in a file what this call has taken."""
    everything = [(study, name, size) for study in studies for name in study.optimizers for size in study.epochs]
    earlier = json.loads(calls.read_text(encoding="utf-8")) if calls.exists() else []
    start, before = time.perf_counter(), len(store)
    for number, one in enumerate(everything):
        yield one
        seconds = time.perf_counter() - start
        new, cpu = len(store) - before, time.process_time()
        if new:  # a call that only sums up adds nothing to what the runs have cost
            this = {"runs": new, "seconds": round(seconds), "processor_seconds": round(cpu)}
            calls.write_text(json.dumps([*earlier, this], indent=1) + "\n", encoding="utf-8")
        left = seconds / (number + 1) * (len(everything) - number - 1)
        study, optimizer, size = one
        print(
            f"[{number + 1}/{len(everything)}] {study.name}, {optimizer}, batch size {size}: {seconds / 60:.1f} min so "
            f"far, about {left / 60:.0f} min to go",
            flush=True,
        )


def plain_keras_seconds(study: Study, settings: pd.DataFrame) -> float:
    """Reckon what the runs of a study would take in `model.fit`, from the median of three epochs at each batch size."""
    of_study = settings[(settings["table"] == study.name) & (settings["aim"] == next(iter(study.aims)))]
    runs = of_study.groupby("batch_size")["runs"].sum()
    total = 0.0
    for batch_size, epochs in study.epochs.items():
        model = build_model(**study.model)
        arguments = {"batch_size": batch_size, "verbose": 0, **study.run}
        model.fit(study.x, study.y, epochs=1, **arguments)  # traces
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            model.fit(study.x, study.y, epochs=1, **arguments)
            seconds.append(time.perf_counter() - start)
        total += np.median(seconds) * epochs * runs[batch_size]
    return float(total)


def main(arguments: list[str] | None = None) -> int:
    """Train, sum up, and write.

    Args:
        arguments: Command line without the program's name; None takes the process's own.

    Returns:
        Exit status 0.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=512, help="runs of each setting and learning rate")
    parser.add_argument("--store", type=Path, default=ROOT / "build" / "sweep.sqlite", help="where runs are kept")
    parser.add_argument("--output", type=Path, default=ROOT / "data" / "sweep", help="where the summary goes")
    options = parser.parse_args(arguments)

    ads = advertising(options.seeds)
    others = [bundled(name, max(6, options.seeds // 8)) for name in BUNDLED]
    settings, best = [], []
    calls = options.store.with_suffix(".calls.json")
    with Store(options.store) as store:
        for study, optimizer, batch_size in progress([ads, *others], store, calls):
            some, tuned = summed_up(study, optimizer, batch_size, trained(study, optimizer, batch_size, store))
            settings += some
            best += tuned
        runs = len(store)

    options.output.mkdir(parents=True, exist_ok=True)
    write = partial(pd.DataFrame.to_csv, index=False, float_format="%.6g", lineterminator="\n")
    write(pd.DataFrame(settings), options.output / "settings.csv")
    write(pd.DataFrame(best), options.output / "best.csv")
    provenance = {
        "command": "make sweep",
        "date": datetime.now(UTC).date().isoformat(),
        "table": fingerprint(load_ads()),
        "runs": runs,
        "calls": json.loads(calls.read_text(encoding="utf-8")),
        "hours_in_plain_keras": {
            study.name: round(plain_keras_seconds(study, pd.DataFrame(settings)) / 3600) for study in (ads, *others)
        },
        "epochs_of_each_batch_size": {study.name: study.epochs for study in (ads, *others)},
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    }
    (options.output / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")
    print(f"{runs} runs are in the store, their summary in {options.output.name}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
