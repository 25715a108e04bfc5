"""A grid of runs, taken apart into settings, each of which one compiled program serves. Never trains.

A setting is all that its runs share; they differ by learning rate and seed. Settings are trained and kept in blocks
whose runs are always the same ones, however often a sweep is interrupted, so that it ends with the same figures.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np

import batchlab.training
from batchlab.checks import positive_number, whole_number
from batchlab.results import ordered_figures
from batchlab.study.store import Run as RateAndSeed
from batchlab.training import keras_internals as internals
from batchlab.training.configuration import configuration
from batchlab.training.run import Run
from batchlab.training.subject import Subject

Grid: TypeAlias = Mapping[str, Any]
"""For each name one value, or several: a list, a range, or a mapping from labels to values."""

_RUN = tuple(field.name for field in fields(Run))
_RUNS_AT_ONCE = 128  # what one core takes side by side


@dataclass(frozen=True)
class Setting:
    """What the runs of one block of the grid share.

    Attributes:
        build: Returns the compiled model.
        run: The arguments of training, as `fit_seeds` takes them.
        labels: What tells this setting from the others, for the columns of the frame.
        rates: Learning rates; one None leaves the optimizer its own.
        seeds: Of each learning rate.
        kept: The epochs whose figures are kept, counted from 1.
        determined: All that determines the figures but learning rate and seed, for the store.
        figures: Names of what is measured, in the order of the frame.
        updates_per_epoch: Optimizer steps.
    """

    build: Callable[[], keras.Model]
    run: dict[str, Any]
    labels: dict[str, Any]
    rates: list[float | None]
    seeds: list[int]
    kept: list[int]
    determined: dict[str, Any] = field(repr=False)
    figures: list[str]
    updates_per_epoch: int

    @property
    def key(self) -> str:
        """A short name that only settings with the same figures share."""
        return hashlib.blake2b(json.dumps(self.determined, sort_keys=True).encode(), digest_size=8).hexdigest()

    def runs(self) -> list[RateAndSeed]:
        """Return all runs, as the store names them."""
        return named_runs(self.rates, self.seeds)

    def blocks(self) -> Iterator[tuple[list[float | None], list[int]]]:
        """Yield learning rates and seeds of the runs that are trained, and kept, together."""
        for start in range(0, len(self.seeds), _RUNS_AT_ONCE):
            seeds = self.seeds[start : start + _RUNS_AT_ONCE]
            rates_at_once = max(1, _RUNS_AT_ONCE // len(seeds))
            for first in range(0, len(self.rates), rates_at_once):
                yield self.rates[first : first + rates_at_once], seeds


def named_runs(rates: Sequence[float | None], seeds: Sequence[int]) -> list[RateAndSeed]:
    """Return each rate with each seed as the store keeps them: 0 stands for the optimizer's own rate."""
    return [(0.0 if rate is None else rate, seed) for rate in rates for seed in seeds]


def settings(
    build_model: Callable[..., keras.Model], x: np.ndarray, y: np.ndarray, grid: Grid, kept: Sequence[int] | None
) -> Iterator[Setting]:
    """Take a grid apart; for the arguments see `sweep`.

    Raises:
        TypeError: A value is not of its kind, or the grid lacks a name.
        ValueError: A value is out of range, an axis is empty or repeats itself, or a model has code of its own.
    """
    axes = {name: _axis(name, value) for name, value in grid.items()}
    for name in ("batch_size", "epochs"):
        if name not in axes:
            raise TypeError(f"sweep: the grid has no {name!r}; give one value, or a list of them.")
    seeds = _seeds(grid.get("seed", 1))
    rates = _rates([value for _, value in axes["learning_rate"]]) if "learning_rate" in axes else [None]
    names = [name for name in axes if name not in ("seed", "learning_rate")]
    models: dict[str, tuple[str, list[str]]] = {}
    for choice in product(*(axes[name] for name in names)):
        values = {name: value for name, (_, value) in zip(names, choice, strict=True)}
        labels = {
            name: label
            for name, (label, _) in zip(names, choice, strict=True)
            if name == "batch_size" or len(axes[name]) > 1 or isinstance(grid[name], Mapping)
        }
        own = {name: value for name, value in values.items() if name not in _RUN}
        run = {name: value for name, value in values.items() if name in _RUN}
        checked = Run(**run).checked(least_epochs=1)
        train, valid = checked.rows(np.asarray(x), np.asarray(y))
        epochs = list(range(1, checked.epochs + 1)) if kept is None else [e for e in kept if e <= checked.epochs]
        if not epochs:
            raise ValueError(
                f"sweep: none of the epochs to keep, {list(kept)}, is within the {checked.epochs} trained."
            )
        build = _Build(build_model, own)
        told = repr(sorted(own.items()))
        if told not in models:
            model = build()
            internals.build(model, train.part(0, 1).data)
            text = configuration(Subject.of(model, train.part(0, 1).data))
            if text is None:
                raise ValueError(
                    "sweep: the model has code of its own (a layer, a loss, a metric or an initializer that is not "
                    "Keras's), or something set after building that its configuration forgets, so runs of an older "
                    "version of it could not be told from new ones. Use fit_seeds."
                )
            if rates != [None]:
                text = _without_rate(text)
            measured = ["loss", *(metric.name for metric, _ in internals.compiled_metrics(model))]
            models[told] = text, measured
        text, measured = models[told]
        determined = {
            "model": text,
            "data": _digest(train.data, valid and valid.data),
            "batch_size": checked.batch_size,
            "epochs": checked.epochs,
            "kept": epochs,
            "shuffle": checked.shuffle,
            "versions": _versions(),
        }
        yield Setting(
            build,
            run,
            labels,
            rates,
            seeds,
            epochs,
            determined,
            ordered_figures([*measured, *(f"val_{name}" for name in measured if valid is not None)]),
            train.steps(checked.batch_size),
        )


@dataclass(frozen=True)
class _Build:
    """A function without arguments that travels to other processes."""

    build_model: Callable[..., keras.Model]
    arguments: dict[str, Any]

    def __call__(self) -> keras.Model:
        return self.build_model(**self.arguments)


def _axis(name: str, value: object) -> list[tuple[Any, Any]]:
    """The labels and values of one axis."""
    if name in ("sample_weight", "validation_data"):
        return [(name, value)]
    if isinstance(value, Mapping) and name != "class_weight":
        pairs = list(value.items())
    elif isinstance(value, list | range):
        pairs = [(one if isinstance(one, int | float | str) else str(one), one) for one in value]
    else:
        pairs = [(value, value)]
    if not pairs:
        raise ValueError(f"sweep: {name!r} has no value; give at least one, or leave it out.")
    labels = [label for label, _ in pairs]
    if len(pairs) > 1 and len(set(labels)) < len(labels):
        raise ValueError(f"sweep: {name!r} holds a value twice: {labels}; its runs would be counted twice.")
    return pairs


def _seeds(seeds: object) -> list[int]:
    if not isinstance(seeds, list | range):
        return list(range(whole_number(seeds, "seed", 1)))
    return [whole_number(seed, f"seed[{i}]", 0, 2**63 - 1) for i, seed in enumerate(seeds)]  # the store's are 64 bits


def _rates(rates: list) -> list[float]:
    return [positive_number(rate, f"learning_rate[{i}]") for i, rate in enumerate(rates)]


def _without_rate(text: str) -> str:
    """Drop the optimizer's own learning rate, which the grid replaces."""
    config = json.loads(text)
    config["compiled"]["optimizer"]["config"].pop("learning_rate", None)
    return json.dumps(config, sort_keys=True)


def _digest(*trees: object) -> str:
    """SHA-256 of all arrays with their shapes and types."""
    digest = hashlib.sha256()
    for leaf in keras.tree.flatten(trees):
        if leaf is None:
            digest.update(b"none")
        else:
            digest.update(f"{leaf.dtype}{leaf.shape}".encode())
            digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()


@cache
def _versions() -> dict[str, str]:
    """What computes the figures: the packages, and our own code that trains."""
    found = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy")}
    code = hashlib.sha256()
    for file in sorted(Path(batchlab.training.__file__).parent.rglob("*.py")):
        code.update(file.read_bytes())
    return found | {"training": code.hexdigest()[:16]}
