"""Measure what a training step costs, side by side with what a user would use instead: `make bench`.

All contestants take turns in one session, so a busy minute of the machine meets all of them. Medians stand with the
smallest and largest sample, and every ratio is formed within a round. Writes build/bench.json and build/bench.png.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))
os.environ.setdefault("MPLBACKEND", "agg")

from batchlab.environment import prepare  # noqa: E402

prepare()  # before anything imports TensorFlow, which is talkative

import devices  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from calls import Calls  # noqa: E402
from contestants import Contestant, Task, Unavailable, compiled_fit, contestants, plain_keras, versions  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from networks import KINDS, Networks, ratios  # noqa: E402

import helpers  # noqa: E402

ROWS = 320
LONGEST = 500  # epochs of one call, as documented: what a call costs before its first step counts as it does there
TABLE = "data/stand_in.csv"


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        batch_sizes: For the cost of a step.
        rounds: Samples of everything.
        seconds: What a sample lasts, at least.
        longest: Epochs of one call, at most.
        factors: How many times the rows, for the growth of the cost with the table.
        factor_batch_sizes: Batch sizes there.
        first_curves: Rounds that also start a fresh process and draw a curve.
        thorough: Whether to look for the best of Keras's options among more than two settings.
        chains: Networks for the comparison of a graphics card with the processor, where there is a card.
        kinds: Of the networks that people train.
    """

    batch_sizes: tuple[int, ...] = (1, 32, 250)
    rounds: int = 5
    seconds: float = 0.35
    longest: int = LONGEST
    factors: tuple[int, ...] = (10, 100)
    factor_batch_sizes: tuple[int, ...] = (32, 250)
    first_curves: int = 3
    thorough: bool = True
    chains: tuple[devices.Chain, ...] = devices.CHAINS
    kinds: tuple[str, ...] = KINDS


QUICK = Plan(
    batch_sizes=(1,),
    rounds=2,
    seconds=0.02,
    longest=20,
    factors=(10,),
    factor_batch_sizes=(250,),
    first_curves=1,
    thorough=False,
    chains=devices.CHAINS[:1],
    kinds=("plain", "both"),
)


@dataclass
class Cell:
    """One contestant at one batch size on one table, and its samples.

    Attributes:
        contestant: Name.
        batch_size: Rows for one update.
        rows: Of the table.
        seeds: Runs that one call trains.
        task: What runs.
        epochs: Of one call.
        calls: In one sample.
        wall: Seconds of each sample.
        cpu: Processor seconds of each sample, all threads together.
    """

    contestant: str
    batch_size: int
    rows: int
    seeds: int
    task: Task
    epochs: int = 1
    calls: int = 1
    loss: float = math.nan
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Updates in one sample, those of all seeds together."""
        return self.calls * self.epochs * math.ceil(self.rows / self.batch_size) * self.seeds

    def warm_up(self, plan: Plan, *, whole: bool = False) -> None:
        """Compile, and find how many epochs and calls make a sample.

        Args:
            plan: Says how long a sample lasts.
            whole: Whether a call is the longest, however long it takes.
        """
        self.epochs = plan.longest if whole else 1
        while True:
            self._time()  # compiles, where that depends on the number of epochs
            seconds, _ = self._time()
            if seconds >= plan.seconds / 2 or self.epochs == plan.longest:
                break
            self.epochs = min(plan.longest, max(self.epochs + 1, round(self.epochs * plan.seconds / seconds)))
        self.calls = math.ceil(plan.seconds / seconds) if self.epochs == plan.longest else 1

    def sample(self) -> None:
        """Take one sample."""
        gc.collect()
        wall, cpu = self._time()
        self.wall.append(wall)
        self.cpu.append(cpu)

    def _time(self) -> tuple[float, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(self.calls):
            self.loss = self.task.run(self.epochs)
        return time.perf_counter() - wall, time.process_time() - cpu

    def micros(self, samples: list[float]) -> list[float]:
        """Samples in microseconds a step and seed."""
        return [1e6 * seconds / self.steps for seconds in samples]

    def record(self) -> dict:
        """Everything about the cell, for the JSON file."""
        return {
            "contestant": self.contestant,
            "note": self.task.note,
            "batch_size": self.batch_size,
            "rows": self.rows,
            "seeds": self.seeds,
            "epochs_a_call": self.epochs,
            "calls_a_sample": self.calls,
            "steps_a_sample": self.steps,
            "loss_after_a_call": self.loss,
            "wall_us_a_step": spread(self.micros(self.wall)),
            "cpu_us_a_step": spread(self.micros(self.cpu)),
        }


@dataclass(frozen=True)
class Target:
    """A ratio, or seconds, with its limit.

    Attributes:
        name: What is compared.
        limit: The value to reach.
        at_least: Whether more is better.
        samples: One value a round; empty when it could not be measured.
        unit: Behind the numbers.
    """

    name: str
    limit: float
    at_least: bool
    samples: list[float]
    unit: str = "x"

    @property
    def reached(self) -> int:
        """In how many rounds the limit was reached."""
        return sum(value >= self.limit if self.at_least else value <= self.limit for value in self.samples)

    @property
    def met(self) -> bool | None:
        """Whether median and four rounds of five reach the limit; None when nothing was measured."""
        if not self.samples:
            return None
        median = statistics.median(self.samples)
        return (median >= self.limit if self.at_least else median <= self.limit) and (
            self.reached >= 0.8 * len(self.samples)
        )

    def record(self) -> dict:
        """Everything about the target, for the JSON file."""
        return {
            "name": self.name,
            "limit": self.limit,
            "limit_is": "at least" if self.at_least else "at most",
            "unit": self.unit,
            "met": self.met,
            "rounds_reached": self.reached,
            **(spread(self.samples) if self.samples else {"samples": []}),
        }


# --- measuring ---------------------------------------------------------------------------------------


def measure(plan: Plan, folder: Path, say: Callable[[str], None]) -> dict:
    """Measure everything.

    Args:
        plan: How much.
        folder: Where the C loop is built.
        say: Told what happens.

    Returns:
        The results, as build/bench.json holds them.
    """
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    x, y = helpers.scale_features(helpers.load_ads(ROOT / TABLE))
    x, y = x[:ROWS], y[:ROWS]

    everybody = contestants(folder, thorough=plan.thorough)
    groups, missing = [], {}
    for batch_size in plan.batch_sizes:
        say(f"warm-up: batch size {batch_size}")
        groups.append(list(_cells(everybody, x, y, batch_size, plan, missing)))
    steps = [cell for group in groups for cell in group]
    pair = [Contestant("model.fit", plain_keras), Contestant("fit", compiled_fit)]
    for factor in plan.factors:
        more = _more_rows(x, y, factor)
        for batch_size in plan.factor_batch_sizes:
            say(f"warm-up: {len(more[0])} rows, batch size {batch_size}")
            groups.append(list(_cells(pair, *more, batch_size, plan, missing)))
    rows = [cell for group in groups for cell in group][len(steps) :]

    on_devices = {}
    for chain in plan.chains if devices.cards() else ():
        say(f"warm-up: {chain.name}, batch size {chain.batch_size}")
        on_devices[chain] = list(_cells(devices.contestants(chain), *chain.rows(), chain.batch_size, plan, missing))
    groups += on_devices.values()

    say("warm-up: calls")
    calls, called = Calls.prepare(x, y), []
    say("warm-up: networks")
    networks, networked = Networks.prepare(x, y, 2 * plan.longest, plan.kinds), []
    # What is alive now stays: looking through it before every sample would take longer than most samples.
    gc.collect()
    gc.freeze()
    first_curve()  # leaves its compiled programs on disk for those that count
    first_curves = []
    dice = random.Random(0)
    for number in range(plan.rounds):
        say(f"round {number + 1} of {plan.rounds}")
        for group in groups:
            for cell in dice.sample(group, len(group)):
                cell.sample()
        called.append(calls.sample())
        networked.append(networks.sample())
        if number < plan.first_curves:
            first_curves.append(first_curve())

    return {
        "machine": machine(),
        "versions": {"python": platform.python_version(), **versions()},
        "load_average_before": load and round(load[0], 2),
        "rows": ROWS,
        "table": TABLE,
        "rounds": plan.rounds,
        "quick": plan == QUICK,
        "unavailable": missing,
        "steps": [cell.record() for cell in steps],
        "more_rows": [cell.record() for cell in rows],
        "devices": [
            {"network": chain.name, "operations": chain.operations(), "chosen": devices.choice(chain), **cell.record()}
            for chain, cells in on_devices.items()
            for cell in cells
        ],
        "first_curve": {
            "seconds": spread([sample["total"] for sample in first_curves]),
            "stages": first_curves,
        },
        "calls": {name: spread([sample[name] for sample in called]) for name in called[0]},
        "networks": {name: spread([sample[name] for sample in networked]) for name in networked[0]},
        "targets": [
            target.record()
            for target in targets(steps, [sample["total"] for sample in first_curves], called, networked)
        ],
    }


def _cells(
    group: Iterable[Contestant], x: np.ndarray, y: np.ndarray, batch_size: int, plan: Plan, missing: dict[str, str]
) -> Iterator[Cell]:
    for contestant in group:
        try:
            task = contestant.prepare(x, y, batch_size)
        except Unavailable as reason:
            missing[contestant.name] = str(reason)
            continue
        cell = Cell(contestant.name, batch_size, len(x), contestant.seeds, task)
        cell.warm_up(plan, whole=contestant.whole and len(x) == ROWS)
        yield cell


def _more_rows(x: np.ndarray, y: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """The table over and over, with a little noise on the features so that no two rows are equal."""
    noise = np.random.default_rng(0).normal(0, 0.05, (factor * len(x), x.shape[1]))
    return (np.tile(x, (factor, 1)) + noise).astype(np.float32), np.tile(y, factor)


def first_curve() -> dict[str, float]:
    """Seconds until a fresh process has drawn its first curve, by stage; `total` counts the start of Python too."""
    command = [sys.executable, str(Path(__file__).with_name("first_curve.py"))]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        # The watch stops when the last line comes: leaving Python takes a while longer.
        lines = [(line, time.perf_counter() - start) for line in process.stdout]
    if process.returncode:
        raise RuntimeError(f"first_curve.py ended with status {process.returncode}; run it alone to see why")
    stages, total = lines[-1]
    return {**json.loads(stages), "total": total}


def targets(
    cells: list[Cell], first_curves: list[float], calls: list[dict[str, float]], networks: list[dict[str, float]]
) -> list[Target]:
    """The targets, each ratio formed within its round.

    Args:
        cells: Those of the cost of a step.
        first_curves: Seconds until the first curve is drawn.
        calls: Seconds of whole calls, of each round; see `calls`.
        networks: Likewise; see `networks`.
    """
    found = {(cell.contestant, cell.batch_size): cell for cell in cells}

    def ratio(limit: float, above: str, below: str, batch_size: int, clock: str = "", at_least: bool = False) -> Target:
        pair = [found.get((name, batch_size)) for name in (above, below)]
        samples = [cell.micros(cell.cpu if clock == "processor time" else cell.wall) for cell in pair if cell]
        ratios = [first / second for first, second in zip(*samples, strict=True)] if all(pair) else []
        name = f"{above} / {below}, batch size {batch_size}" + (clock and f", {clock}")
        return Target(name, limit, at_least, ratios)

    many = "fit_seeds, S = 128"
    return [
        ratio(500, "model.fit", "fit", 1, at_least=True),
        ratio(6, "fit", "C loop", 1),
        ratio(0.5, many, "C loop", 1, "wall clock"),
        ratio(1, many, "C loop", 1, "processor time"),
        ratio(1, many, "C loop", 32, "wall clock"),
        ratio(1, many, "C loop", 250, "wall clock"),
        Target("model.fit / fit, a call of one update", 25, True, [one["model.fit"] / one["fit"] for one in calls]),
        Target("...with validation", 25, True, [one["model.fit, validated"] / one["fit, validated"] for one in calls]),
        Target(
            "check / model.fit, first epoch",
            0.05,
            False,
            [one["check"] / one["model.fit, first epoch"] for one in calls],
        ),
        Target("first curve of a new process, programs kept on disk", 5, False, first_curves, " s"),
        *(Target(name, limit, False, samples) for name, limit, samples in ratios(networks)),
    ]


def spread(samples: list[float]) -> dict:
    """Median, smallest, largest and all samples."""
    return {"median": statistics.median(samples), "min": min(samples), "max": max(samples), "samples": samples}


def scaled(figures: dict, factor: float) -> dict:
    """Return a spread in another unit."""
    return {
        name: [factor * v for v in value] if name == "samples" else factor * value for name, value in figures.items()
    }


def machine() -> dict:
    """What the measurements ran on."""
    cards = devices.cards()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()} {platform.machine()}"
    return {"cores": cores, "processor": _processor(), "cards": cards, "system": system}


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        for line in facts.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return platform.processor() or "unknown"


# --- reporting ---------------------------------------------------------------------------------------


def short(value: float) -> str:
    """Three significant digits, no exponent."""
    return np.format_float_positional(value, precision=3, unique=False, fractional=False, trim="-")


def _range(figures: dict) -> str:
    return f"{short(figures['min'])} to {short(figures['max'])}"


def report(results: dict) -> str:
    """Lay the results out as tables."""
    host = results["machine"]
    places = f"{host['processor']}, {host['cores']} cores, {', '.join(host['cards']) or 'no graphics card'}"
    parts = [f"{places}, {host['system']}; {results['rounds']} rounds, interleaved"]
    if (results["load_average_before"] or 0) > 0.5:
        load = results["load_average_before"]
        parts[0] += f"\nOther programs were running (load average {load}): wall-clock figures contain waiting for them."
    for batch_size in dict.fromkeys(record["batch_size"] for record in results["steps"]):
        records = [record for record in results["steps"] if record["batch_size"] == batch_size]
        title = f"Batch size {batch_size}, {results['rows']} rows: microseconds a step and seed"
        parts.append(f"{title}\n{_table(records, results['unavailable'])}")
    if results["more_rows"]:
        rows = [
            {
                "rows": record["rows"],
                "batch size": record["batch_size"],
                "contestant": record["contestant"],
                "median": short(record["wall_us_a_step"]["median"]),
                "min to max": _range(record["wall_us_a_step"]),
            }
            for record in results["more_rows"]
        ]
        parts.append(f"More rows: microseconds a step\n{pd.DataFrame(rows).to_string(index=False)}")

    if results["devices"]:
        parts.append(f"On a graphics card: microseconds a step\n{_devices(results['devices'])}")

    rows = [
        {"call": name, "median": short(1e3 * figures["median"]), "min to max": _range(scaled(figures, 1e3))}
        for name, figures in (results["calls"] | results["networks"]).items()
    ]
    parts.append(f"Whole calls, the model known: milliseconds\n{pd.DataFrame(rows).to_string(index=False)}")
    stages = results["first_curve"]["stages"]
    medians = {name: statistics.median(stage[name] for stage in stages) for name in stages[0]}
    lines = [f"  {seconds:5.2f} s  {name}" for name, seconds in medians.items()]
    parts.append("\n".join(["A new process: seconds until (medians; total adds the start of Python)", *lines]))

    rows = [
        {
            "target": target["name"],
            "limit": f"{target['limit_is']} {target['limit']}{target['unit']}",
            "median": f"{short(target['median'])}{target['unit']}" if target["samples"] else "",
            "min to max": _range(target) if target["samples"] else "",
            "rounds": f"{target['rounds_reached']} of {len(target['samples'])}" if target["samples"] else "",
            "": {True: "met", False: "missed", None: "not measured"}[target["met"]],
        }
        for target in results["targets"]
    ]
    table = pd.DataFrame(rows).to_string(index=False)
    note = "The C loop uses one core, fit_seeds may use all: processor time adds up the time of all threads."
    parts.append(f"Targets (ratios within a round)\n{table}\n{note}")
    return "\n\n".join(parts)


def _table(records: list[dict], missing: dict[str, str]) -> str:
    baseline = records[0]["wall_us_a_step"]["median"]
    rows = [
        {
            "contestant": record["contestant"],
            "median": short(record["wall_us_a_step"]["median"]),
            "min to max": _range(record["wall_us_a_step"]),
            "processor": short(record["cpu_us_a_step"]["median"]),
            "faster": f"{short(baseline / record['wall_us_a_step']['median'])}x",
            "note": record["note"],
        }
        for record in records
    ]
    blank = dict.fromkeys(rows[0], "")
    rows += [{**blank, "contestant": name, "note": why} for name, why in missing.items()]
    frame = pd.DataFrame(rows)
    width = frame["note"].str.len().max()
    frame["note"] = frame["note"].str.ljust(width)
    return frame.rename(columns={"note": "note".ljust(width)}).to_string(index=False)


def _devices(records: list[dict]) -> str:
    """One line a network: where ours goes by itself, and what Keras and ours take."""
    lines: dict[tuple, dict] = {}
    for record in records:
        what = {"network": record["network"], "batch size": record["batch_size"], "operations": record["operations"]}
        line = lines.setdefault(tuple(what.values()), what | {"fit chooses": record["chosen"].removeprefix("fit, ")})
        line[record["contestant"]] = short(record["wall_us_a_step"]["median"])
    return pd.DataFrame(lines.values()).to_string(index=False)


def draw(results: dict) -> Figure:
    """Draw the cost of a step: one row a contestant, one mark a batch size, from smallest to largest sample."""
    names = list(dict.fromkeys(record["contestant"] for record in results["steps"]))
    batch_sizes = list(dict.fromkeys(record["batch_size"] for record in results["steps"]))
    figure, (ax,) = helpers.subplots(width=9, height=1.6 + 0.42 * len(names))
    for mark, batch_size in zip("osD", batch_sizes, strict=False):
        records = [record for record in results["steps"] if record["batch_size"] == batch_size]
        times = [record["wall_us_a_step"] for record in records]
        medians = np.array([figures["median"] for figures in times])
        reach = [medians - [figures["min"] for figures in times], [figures["max"] for figures in times] - medians]
        shift = 0.22 * (batch_sizes.index(batch_size) - (len(batch_sizes) - 1) / 2)
        ax.errorbar(
            medians,
            [names.index(record["contestant"]) + shift for record in records],
            xerr=reach,
            fmt=mark,
            markersize=6,
            capsize=3,
            color=helpers.colour(batch_size),
            label=f"batch size {batch_size}",
        )
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set(xlabel="microseconds a step and seed (log scale): median, smallest and largest sample")
    host = results["machine"]
    ax.set_title(f"What one training step costs ({host['processor']}, {host['cores']} cores)", loc="left")
    figure.legend(loc="outside lower center", ncols=len(batch_sizes), frameon=False)
    return figure


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, draw and write.

    Args:
        arguments: Command line without the program's name; None takes the process's own.

    Returns:
        Exit status: 0, whether targets are met or missed, for a slow machine is not an error.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="batch size 1 alone and short samples: a rehearsal")
    parser.add_argument("--output", type=Path, default=ROOT / "build", help="where bench.json and bench.png go")
    options = parser.parse_args(arguments)

    start = time.perf_counter()

    def say(what: str) -> None:
        print(f"[{time.perf_counter() - start:4.0f} s] {what}", file=sys.stderr, flush=True)

    results = measure(QUICK if options.quick else Plan(), options.output, say)
    print(f"\n{report(results)}")
    options.output.mkdir(parents=True, exist_ok=True)
    figure = draw(results)
    figure.savefig(options.output / "bench.png", dpi=160, facecolor=figure.get_facecolor(), metadata={"Software": None})
    (options.output / "bench.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    say("wrote bench.json and bench.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
