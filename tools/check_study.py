"""Hold the advice of `study_table` against brute force, on five tables that ship with scikit-learn: `make check-study`.

Brute force tries every power of two as a batch size, with learning rates in steps of the root of 2 and other seeds. For
each aim it is asked what the recommended batch size costs at the recommended rate, beside the best of all.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from batchlab.environment import prepare  # noqa: E402

prepare()

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import sklearn.datasets  # noqa: E402

from batchlab.models import build_model  # noqa: E402
from batchlab.statistics import BAND, Estimate  # noqa: E402
from batchlab.study.advice import AIMS  # noqa: E402
from batchlab.study.own import HIDDEN, Study, study_table  # noqa: E402
from batchlab.study.trials import FRESH_SEEDS, RESAMPLES, Task, update_seconds  # noqa: E402
from batchlab.study.tuning import Target, widened  # noqa: E402
from batchlab.table.own import read_table  # noqa: E402
from batchlab.training import fit_seeds  # noqa: E402

TABLES = ("iris", "wine", "breast_cancer", "digits", "diabetes")
_STEPS = range(-2, 3)  # in roots of 2 about the rate that the advice suggests
_FIRST_SEED = 20_000


def brute_force(study: Study, seeds: int) -> tuple[list[int], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the batch sizes, what each seems to cost for every aim, and what it costs.

    The first has the shape (sizes + those of the study,), the other one an axis of resamples before it. They are found
    at the best rate of brute force; since that was chosen by its luck, the costs are those of fresh runs. The sizes of
    the study come last, at the rate advised and with the same seeds, which had no part in its choice either.
    """
    encoded, evidence = study.encoded, study.advice.table
    rows = len(encoded.y)
    sizes = [*(2**power for power in range(20) if 2**power < rows), rows]
    build = partial(
        build_model, HIDDEN, features=encoded.x.shape[1], classes=encoded.classes, optimizer=study.optimizer
    )
    known = np.log(evidence["batch_size"]), np.log(evidence["learning_rate"].ffill().bfill())
    aim = Target(study.advice.target)
    advised = evidence.dropna(subset="learning_rate").set_index("batch_size")["learning_rate"]
    seeming, fresh, ours = [], [], {}
    for size in sizes:
        near = evidence["batch_size"].between(size / 4, size * 4)
        trained = partial(
            fit_seeds,
            build,
            encoded.x,
            encoded.y,
            batch_size=size,
            epochs=math.ceil(evidence.loc[near, "most_updates"].max() * size / rows),
            validation_data=encoded.held_out,
        )
        middle = round(2 * np.interp(math.log(size), *known) / math.log(2))
        first = range(_FIRST_SEED, _FIRST_SEED + seeds)
        frame_of = partial(_at_rates, trained, first)
        frame = widened(frame_of, [2.0 ** ((middle + step) / 2) for step in _STEPS], [aim])
        medians = aim(frame).groupby("learning_rate").median()
        seeming.append(medians.min())
        again = range(_FIRST_SEED + seeds, _FIRST_SEED + seeds + len(FRESH_SEEDS))
        fresh.append(aim(trained(seeds=again, learning_rates=[medians.idxmin()])).to_numpy())
        if size in advised:
            ours[size] = aim(trained(seeds=again, learning_rates=[advised[size]])).to_numpy()
    scores = np.array([*fresh, *ours.values()])
    drawn = np.random.default_rng(2).integers(scores.shape[1], size=(RESAMPLES + 1, scores.shape[1]))
    drawn[0] = np.arange(scores.shape[1])
    updates = np.stack([np.median(of_size[drawn], axis=1) for of_size in scores], axis=1)
    seeming = np.array([*seeming, *updates[0, len(sizes) :]])

    task = Task(build, encoded.x, encoded.y, encoded.held_out, seeds)
    timed = dict(zip(sizes, update_seconds(task, "compiled", sizes).T, strict=True))
    all_sizes = [*sizes, *ours]
    factors = {
        "updates": np.ones((1, len(all_sizes))),
        "rows": np.array([[rows / -(-rows // size) for size in all_sizes]]),
        "seconds": np.stack([timed[size] for size in all_sizes], axis=1),
    }
    return (
        all_sizes,
        {name: seeming * factor[0] for name, factor in factors.items()},
        {name: updates * factor for name, factor in factors.items()},
    )


def _at_rates(trained: Callable[..., pd.DataFrame], seeds: range, rates: list[float]) -> pd.DataFrame:
    return trained(seeds=seeds, learning_rates=rates)


def compared(name: str, study: Study, seeds: int) -> list[dict]:
    """One record for each aim: what was recommended, what was best, and how much more the former costs."""
    sizes, seeming, costs = brute_force(study, seeds)
    tried = len(sizes) - study.advice.runs["batch_size"].nunique()
    records = []
    for aim in AIMS:
        found = costs[aim]
        advice = study.advice.for_aim(aim)
        best = int(seeming[aim][:tried].argmin())
        at = tried + sizes[tried:].index(advice.batch_size)
        of_best, of_ours = (_estimate(found[:, place]) for place in (best, at))
        excess = _estimate(found[:, at] / found[:, best])
        records.append(
            {
                "table": name,
                "aim": aim,
                "recommended": advice.batch_size,
                "rate": advice.learning_rate.value,
                "promised": advice.cost.value,
                "promised_low": advice.cost.low,
                "promised_high": advice.cost.high,
                "costs": of_ours.value,
                "costs_low": of_ours.low,
                "costs_high": of_ours.high,
                "best": sizes[best],
                "best_costs": of_best.value,
                "best_low": of_best.low,
                "best_high": of_best.high,
                "excess": excess.value,
                "excess_low": excess.low,
                "excess_high": excess.high,
                # The same rule as in tests/test_advice.py: its interval reaches into that of the best one.
                "within": bool(of_ours.low <= of_best.high),
                "took": study.took,
            }
        )
    return records


def _estimate(resampled: np.ndarray) -> Estimate:
    low, _, high = np.quantile(resampled, BAND, method="nearest")
    return Estimate(float(resampled[0]), float(low), float(high))


def main(arguments: list[str] | None = None) -> int:
    """Study each table, compare, and write build/check_study/result.csv.

    Args:
        arguments: Command line without the program's name; None takes the process's own.

    Returns:
        Exit status: 0 if every recommendation lies within the interval of brute force, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", default=TABLES, help=f"some of {', '.join(TABLES)}")
    parser.add_argument("--seeds", type=int, default=64, help="runs of each batch size and learning rate")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "check_study", help="where the result goes")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    records = []
    for name in options.tables:
        path = options.output / f"{name}.csv"
        getattr(sklearn.datasets, f"load_{name}")(as_frame=True).frame.to_csv(path, index=False)
        start = time.perf_counter()
        study = study_table(read_table(path, "target"))
        records += compared(name, study, options.seeds)
        print(f"{name}: studied in {study.took:.0f} s, all in {time.perf_counter() - start:.0f} s", flush=True)
        print(json.dumps(records[-3:], indent=1), flush=True)
    frame = pd.DataFrame(records)
    frame.to_csv(options.output / "result.csv", index=False)
    print(frame.round(3).to_string())
    return 0 if frame["within"].all() else 1


if __name__ == "__main__":
    sys.exit(main())
