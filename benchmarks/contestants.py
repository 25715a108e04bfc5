"""Who is measured: each contestant trains the documented network on the same rows and does the same work.

That work is: rows in a new order every epoch, batches with a smaller last one, forward, binary cross-entropy and
accuracy (both kept for every epoch), backward, RMSprop as Keras writes it, in float32. What differs is in `note`.
"""

from __future__ import annotations

import ctypes
import math
import shutil
import statistics
import subprocess
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

import helpers
from batchlab.training import fit, fit_seeds

SEEDS = (1, 8, 32, 128)
LEARNING_RATE, RHO, EPSILON = 0.001, 0.9, 1e-7
C_SOURCE = Path(__file__).with_name("sgd_loop.c")
C_FLAGS = ("-O3", "-march=native", "-ffast-math")


class Unavailable(Exception):  # noqa: N818 - it is a finding, not a fault
    """A contestant cannot run on this machine; the message says why."""


@dataclass(frozen=True)
class Task:
    """A contestant made ready for one table and one batch size.

    Attributes:
        run: Trains for a number of epochs and returns the last epoch's training loss, in nats.
        note: What a reader must know about it.
    """

    run: Callable[[int], float]
    note: str = ""


@dataclass(frozen=True)
class Contestant:
    """A way to train.

    Attributes:
        name: As tables and figures show it.
        prepare: Takes x, y and the batch size; raises `Unavailable`.
        seeds: Runs that one call trains.
        whole: Whether it is fast enough to be measured on the whole documented run; else on some epochs of it.
    """

    name: str
    prepare: Callable[[np.ndarray, np.ndarray, int], Task]
    seeds: int = 1
    whole: bool = False


def contestants(folder: Path, *, thorough: bool = True) -> list[Contestant]:
    """List everybody who is measured.

    Args:
        folder: Where the C loop is built.
        thorough: Whether to try more than two settings when looking for the best of Keras's own options.
    """
    return [
        Contestant("model.fit", plain_keras),
        Contestant("model.fit, best options", partial(best_keras, thorough=thorough)),
        Contestant("fit", compiled_fit, whole=True),
        *(Contestant(f"fit_seeds, S = {seeds}", partial(compiled_seeds, seeds), seeds, whole=True) for seeds in SEEDS),
        Contestant("C loop", partial(c_loop, folder), whole=True),
        Contestant("scikit-learn", scikit_learn),
        Contestant("PyTorch", pytorch),
        Contestant("JAX", jax_scan, whole=True),
    ]


# --- Keras and ours ----------------------------------------------------------------------------------


def plain_keras(x: np.ndarray, y: np.ndarray, batch_size: int, **options: Any) -> Task:  # noqa: ANN401
    """`keras.Model.fit` with the options of `compile` that are given; none by default."""
    model = helpers.build_model(seed=0)
    if options:
        model.compile(optimizer="rmsprop", loss="binary_crossentropy", metrics=["accuracy"], **options)

    def run(epochs: int) -> float:
        return model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0).history["loss"][-1]

    return Task(run, ", ".join(f"{name}={value}" for name, value in options.items()))


def best_keras(x: np.ndarray, y: np.ndarray, batch_size: int, *, thorough: bool = True) -> Task:
    """Keras with whichever of its own options is fastest here, found by trying them."""
    steps = math.ceil(len(x) / batch_size)
    epochs = min(8, max(1, 128 // steps))  # short, but more than one where an epoch has few steps
    tried = []
    for steps_per_execution in sorted({1, min(32, steps), steps}) if thorough else [steps]:
        for jit_compile in (False, True):
            task = plain_keras(x, y, batch_size, steps_per_execution=steps_per_execution, jit_compile=jit_compile)
            task.run(1)
            seconds = statistics.median(_seconds(task, epochs) for _ in range(3 if thorough else 1))
            tried.append((seconds, len(tried), task))
    return min(tried)[-1]


def _seconds(task: Task, epochs: int) -> float:
    start = time.perf_counter()
    task.run(epochs)
    return time.perf_counter() - start


def compiled_fit(x: np.ndarray, y: np.ndarray, batch_size: int) -> Task:
    """Our `fit`: the same model object, whole epochs compiled."""
    model = helpers.build_model(seed=0)
    return Task(lambda epochs: fit(model, x, y, batch_size=batch_size, epochs=epochs).history["loss"][-1])


def compiled_seeds(seeds: int, x: np.ndarray, y: np.ndarray, batch_size: int) -> Task:
    """Our `fit_seeds`: models built, trained and put into the long data frame, all of it timed."""
    first = count(0, seeds)  # new ones in each call, since initial weights are remembered

    def run(epochs: int) -> float:
        start = next(first)
        fresh = range(start, start + seeds)
        frame = fit_seeds(helpers.build_model, x, y, seeds=fresh, batch_size=batch_size, epochs=epochs)
        return float(frame.loc[frame["epoch"] == epochs, "loss"].median())

    return Task(run, "may use every core")


# --- C -----------------------------------------------------------------------------------------------


def build_c(folder: Path) -> tuple[ctypes.CDLL, str]:
    """Build the C loop with this machine's compiler.

    Args:
        folder: Where to build it.

    Returns:
        The loaded library, and what it was built with.

    Raises:
        Unavailable: There is no compiler, or it cannot build the loop.
    """
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise Unavailable("no C compiler found (looked for cc, gcc, clang)")
    folder.mkdir(parents=True, exist_ok=True)
    part, library = folder / "sgd_loop.o", folder / "sgd_loop.so"
    # Linked without -ffast-math: some compilers would then change how this whole process treats tiny numbers.
    for command in (
        [compiler, *C_FLAGS, "-fPIC", "-c", C_SOURCE, "-o", part],
        [compiler, "-shared", part, "-lm", "-o", library],
    ):
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            lines = result.stderr.strip().splitlines() or ["it gave no reason"]
            why = next((line for line in lines if "error" in line), lines[-1])
            raise Unavailable(f"{Path(compiler).name} cannot build the loop: {why}")
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout.splitlines()
    return ctypes.CDLL(str(library)), f"{version[0] if version else Path(compiler).name}, {' '.join(C_FLAGS)}"


def train_in_c(
    library: ctypes.CDLL,
    weights: Sequence[np.ndarray],
    x: np.ndarray,
    y: np.ndarray,
    *,
    batch_size: int,
    epochs: int,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Train in C from given weights.

    Args:
        library: From `build_c`.
        weights: As `model.get_weights()` of the documented network returns them; they stay as they are.
        x: float32 of shape (rows, 2).
        y: float32 of shape (rows,).
        batch_size: Rows for one update.
        epochs: Passes over the rows.
        seed: Of the shuffles; 0 keeps the rows in order.

    Returns:
        Loss and accuracy, one value an epoch, and the final weights in one row.
    """
    flat = np.concatenate([np.ravel(part) for part in weights]).astype(np.float32)
    if flat.size != 151 or x.shape != (len(y), 2):
        raise ValueError("the C loop is written for the documented network: 2 features, 151 parameters")
    loss, accuracy = np.empty(epochs, np.float32), np.empty(epochs, np.float32)
    x, y = np.ascontiguousarray(x, np.float32), np.ascontiguousarray(y, np.float32)
    failed = library.train(
        *(part.ctypes.data_as(ctypes.c_void_p) for part in (flat, np.zeros_like(flat), x, y)),
        *map(ctypes.c_int, (len(y), batch_size, epochs)),
        ctypes.c_uint64(seed),
        *(part.ctypes.data_as(ctypes.c_void_p) for part in (loss, accuracy)),
    )
    if failed:
        raise MemoryError("the C loop found no memory for the order of the rows")
    return loss, accuracy, flat


def c_loop(folder: Path, x: np.ndarray, y: np.ndarray, batch_size: int) -> Task:
    """A plain loop in C, one run on one core."""
    library, built_with = build_c(folder)
    weights = helpers.build_model(seed=0).get_weights()

    def run(epochs: int) -> float:
        loss, _, _ = train_in_c(library, weights, x, y, batch_size=batch_size, epochs=epochs, seed=1)
        return float(loss[-1])

    return Task(run, f"one core; {built_with}")


# --- others ------------------------------------------------------------------------------------------


def scikit_learn(x: np.ndarray, y: np.ndarray, batch_size: int) -> Task:
    """`MLPClassifier` of the same size; it has no RMSprop."""

    def run(epochs: int) -> float:
        model = MLPClassifier(
            (10, 10),
            alpha=0,
            batch_size=batch_size,
            max_iter=epochs,
            tol=0,
            n_iter_no_change=epochs + 1,
            random_state=0,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # epochs are counted, not convergence
            return float(model.fit(x, y).loss_curve_[-1])

    return Task(run, "Adam, not RMSprop; keeps no accuracy")


def pytorch(x: np.ndarray, y: np.ndarray, batch_size: int) -> Task:
    """PyTorch as its tutorials write it, eager."""
    try:
        import torch
    except ImportError:
        raise Unavailable("PyTorch is not installed") from None
    from torch import nn

    torch.set_num_threads(1)  # with work this small, a second thread is mostly waited for
    model = nn.Sequential(nn.Linear(2, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 1))
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    initial = helpers.build_model(seed=0).get_weights()
    with torch.no_grad():
        for layer, kernel, bias in zip(layers, initial[::2], initial[1::2], strict=True):
            layer.weight.copy_(torch.from_numpy(kernel.T.copy()))
            layer.bias.copy_(torch.from_numpy(bias))
    weights = list(model.parameters())
    squares = [torch.zeros_like(weight) for weight in weights]
    loss_of = nn.BCEWithLogitsLoss()
    features, targets = torch.from_numpy(x), torch.from_numpy(y)[:, None]

    def run(epochs: int) -> float:
        curve = []
        for _ in range(epochs):
            total, right = torch.zeros(()), torch.zeros(())
            for batch in torch.randperm(len(features)).split(batch_size):
                target = targets[batch]
                logit = model(features[batch])
                loss = loss_of(logit, target)
                gradients = torch.autograd.grad(loss, weights)
                with torch.no_grad():  # torch.optim.RMSprop adds epsilon after the root, Keras before
                    torch._foreach_mul_(squares, RHO)
                    torch._foreach_addcmul_(squares, gradients, gradients, 1 - RHO)
                    roots = torch._foreach_sqrt(torch._foreach_add(squares, EPSILON))
                    torch._foreach_addcdiv_(weights, gradients, roots, -LEARNING_RATE)
                    total += loss * len(batch)
                    right += ((logit > 0) == (target > 0.5)).sum()
            curve.append((float(total) / len(features), float(right) / len(features)))
        return curve[-1][0]

    return Task(run, "eager, one thread")


def jax_scan(x: np.ndarray, y: np.ndarray, batch_size: int) -> Task:
    """JAX, the whole run in one compiled program of nested scans."""
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        raise Unavailable("JAX is not installed") from None

    initial = [jnp.asarray(part) for part in helpers.build_model(seed=0).get_weights()]
    features, targets = jnp.asarray(x), jnp.asarray(y)
    rows = len(features)
    whole = rows // batch_size * batch_size  # rows in full batches

    def loss_of(weights: list[jax.Array], xs: jax.Array, ys: jax.Array) -> tuple[jax.Array, jax.Array]:
        w1, b1, w2, b2, w3, b3 = weights
        logit = (jax.nn.relu(jax.nn.relu(xs @ w1 + b1) @ w2 + b2) @ w3 + b3)[:, 0]
        losses = jax.nn.softplus(logit) - logit * ys
        return losses.mean(), jnp.stack([losses.sum(), ((logit > 0) == (ys > 0.5)).sum()])

    def step(state: tuple, batch: jax.Array) -> tuple[tuple, jax.Array]:
        weights, squares = state
        gradients, sums = jax.grad(loss_of, has_aux=True)(weights, features[batch], targets[batch])
        squares = [RHO * v + (1 - RHO) * g * g for v, g in zip(squares, gradients, strict=True)]
        moved = zip(weights, gradients, squares, strict=True)
        return ([w - LEARNING_RATE * g / jnp.sqrt(v + EPSILON) for w, g, v in moved], squares), sums

    def epoch(state: tuple, key: jax.Array) -> tuple[tuple, jax.Array]:
        order = jax.random.permutation(key, rows)
        state, sums = jax.lax.scan(step, state, order[:whole].reshape(-1, batch_size))
        total = sums.sum(0)
        if whole < rows:
            state, rest = step(state, order[whole:])
            total += rest
        return state, total / rows

    @jax.jit
    def train(keys: jax.Array) -> jax.Array:
        return jax.lax.scan(epoch, (initial, [jnp.zeros_like(part) for part in initial]), keys)[1]

    def run(epochs: int) -> float:
        return float(np.asarray(train(jax.random.split(jax.random.key(0), epochs)))[-1, 0])

    return Task(run, "scans, jit")


def versions() -> dict[str, str]:
    """Versions of the packages that took part."""
    import importlib.metadata

    names = ("tensorflow", "keras", "numpy", "pandas", "scikit-learn", "torch", "jax")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return {**found, "keras backend": keras.backend.backend()}
