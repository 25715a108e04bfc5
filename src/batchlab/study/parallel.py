"""One training spread over several processes, each with its share of every batch. Never needs a second machine.

Data parallelism: every process holds the same weights, computes the gradient of its share, and the gradients are summed
before each makes the same update. `tf.distribute.MultiWorkerMirroredStrategy` does so between machines as well as here.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from socket import socket
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd

from batchlab.checks import whole_number
from batchlab.processes import do_tasks, side_by_side


class Trained(NamedTuple):
    """What several processes did together.

    Attributes:
        weights: Of each process the trained weights, as `model.get_weights()` gives them.
        seconds: Of one update. One row a round and batch size. Columns: round, batch_size, together (all of them, with
            one thread each), alone (the first process by itself, with one thread, while the others wait).
    """

    weights: list[list[np.ndarray]]
    seconds: pd.DataFrame


def train(
    model: keras.Model,
    x: np.ndarray,
    y: np.ndarray,
    *,
    batch_size: int,
    epochs: int,
    processes: int = 2,
    timed: Sequence[int] = (),
    rounds: int = 1,
    steps: int = 10,
) -> Trained:
    """Train over several processes on this machine, then time single updates.

    Rows keep their order, and every batch is cut into as many shares as there are processes, so this equals
    `model.fit(x, y, shuffle=False)` but for rounding.

    Args:
        model: Compiled, with one output, a loss of Keras's given by its name, and a built-in optimizer; it stays as it
            is. Training begins at its weights, with a fresh optimizer.
        x: Features, float32 of shape (rows, features).
        y: Targets, float32 of shape (rows,).
        batch_size: Rows for one update, all shares together; the last batch of an epoch holds the remainder.
        epochs: Passes over the rows.
        processes: How many.
        timed: Batch sizes, all shares together, whose updates are timed afterwards.
        rounds: In each the processes together and the first one alone take turns.
        steps: Updates in a row that are timed as one.

    Returns:
        The weights, and the seconds.

    Raises:
        TypeError: A number is not whole.
        ValueError: A number is below 1, the model is not compiled, or its loss is not given by a name.
        RuntimeError: A process failed.
    """
    numbers = {"batch_size": batch_size, "epochs": epochs, "processes": processes, "rounds": rounds, "steps": steps}
    numbers = {name: whole_number(value, name, 1) for name, value in numbers.items()}
    timed = [whole_number(size, f"timed[{i}]", processes) for i, size in enumerate(timed)]
    if not model.compiled or not isinstance(model.loss, str):
        raise ValueError("parallel.train: compile the model with a loss given by its name, such as 'mse'.")
    with tempfile.TemporaryDirectory(prefix="batchlab-") as folder:
        np.savez(Path(folder) / "rows.npz", x=np.asarray(x, np.float32), y=np.asarray(y, np.float32))
        np.savez(Path(folder) / "weights.npz", *model.get_weights())
        described = {
            "model": keras.saving.serialize_keras_object(model),
            "optimizer": keras.optimizers.serialize(model.optimizer),
            "loss": model.loss,
        }
        workers = [f"127.0.0.1:{port}" for port in _free_ports(processes)]
        task = {"folder": folder, "workers": workers, "timed": timed, **numbers, **described}
        tasks = {f"parallel.train: process {i}": task | {"index": i} for i in range(processes)}
        found = side_by_side(__spec__.name, tasks)
        weights = [list(np.load(Path(folder) / f"trained {i}.npz").values()) for i in range(processes)]
    columns = ["round", "batch_size", "together", "alone"]
    return Trained(weights, pd.DataFrame(next(iter(found.values())), columns=columns))


def _free_ports(count: int) -> list[int]:
    """Ports that nobody used a moment ago."""
    sockets = [socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


# --- in each of the processes ------------------------------------------------------------------------


def _work(task: dict) -> list[tuple]:
    import tensorflow as tf

    folder, index = Path(task["folder"]), task["index"]
    cluster = {"cluster": {"worker": task["workers"]}, "task": {"type": "worker", "index": index}}
    os.environ["TF_CONFIG"] = json.dumps(cluster)  # where the strategy looks
    tf.config.threading.set_intra_op_parallelism_threads(1)  # a core each, so that processes do not compete
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    rows = np.load(folder / "rows.npz")
    x, y = rows["x"], rows["y"]
    initial = list(np.load(folder / "weights.npz").values())
    with strategy.scope():
        model = _model(task, initial)
        together = _step(model, task["loss"], strategy.run)

    def part(first: int, size: int) -> tuple:
        """This process's share of a batch, rows taken in turn, and the size of the whole batch."""
        low, high = (first + size * i // task["processes"] for i in (index, index + 1))
        return _tensors(x, y, range(low, high), size)

    for _ in range(task["epochs"]):
        for first in range(0, len(x), task["batch_size"]):
            together(*part(first, min(task["batch_size"], len(x) - first)))
    np.savez(folder / f"trained {index}.npz", *(v.numpy() for v in model.weights))

    calls = {size: {"together": partial(together, *part(0, size))} for size in task["timed"]}
    if index == 0:
        single = _step(_model(task, initial), task["loss"], lambda function, args: function(*args))
        for size in calls:
            calls[size]["alone"] = partial(single, *_tensors(x, y, range(size), size))
    return _seconds(calls, task["rounds"], task["steps"])


def _seconds(calls: dict[int, dict[str, Callable]], rounds: int, steps: int) -> list[tuple]:
    """Time updates in turns; a process that has none to make alone waits for the others at the next common one."""
    samples = []
    for turn in range(-1, rounds):  # the first turn is not counted
        for size, ways in calls.items():
            taken = {}
            for way, call in ways.items():
                begin = time.perf_counter()
                for _ in range(steps if turn >= 0 else 1):
                    call()
                taken[way] = (time.perf_counter() - begin) / steps
            if turn >= 0:
                samples.append((turn, size, taken["together"], taken.get("alone", math.nan)))
    return samples


def _tensors(x: np.ndarray, y: np.ndarray, rows: range, size: int) -> tuple:
    import tensorflow as tf

    rows = np.arange(rows.start, rows.stop) % len(x)
    return tf.constant(x[rows]), tf.constant(y[rows]), tf.constant(size, tf.float32)


def _model(task: dict, weights: list[np.ndarray]) -> keras.Model:
    model = keras.saving.deserialize_keras_object(task["model"])
    model.set_weights(weights)
    model.optimizer = keras.optimizers.deserialize(task["optimizer"])
    model.optimizer.build(model.trainable_variables)
    return model


def _step(model: keras.Model, loss: str, run: Callable) -> Callable:
    """Compile one update; the optimizer sums the gradients over all processes before it takes its step."""
    import tensorflow as tf

    loss = keras.losses.get(loss)

    def update(x: tf.Tensor, y: tf.Tensor, size: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(loss(y[:, None], model(x, training=True))) / size
        model.optimizer.apply(tape.gradient(total, model.trainable_variables), model.trainable_variables)

    features = model.input_shape[1:]
    signature = [tf.TensorSpec((None, *features)), tf.TensorSpec((None,)), tf.TensorSpec(())]
    return tf.function(lambda *batch: run(update, args=batch), input_signature=signature)


if __name__ == "__main__":
    do_tasks(lambda task: print(json.dumps(_work(task))))
