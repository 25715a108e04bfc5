"""What a training step of a deep network costs in memory, and what it costs to do with less.

Backpropagation keeps every layer's activations for the way back. Recomputation (gradient checkpointing: Griewank &
Walther 2000; Chen, Xu, Zhang & Guestrin 2016) keeps only those between segments, and computes the others again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy as np
import pandas as pd
import psutil

from batchlab.checks import whole_number
from batchlab.cores import process_cores
from batchlab.processes import MEBIBYTE, do_tasks, limit_memory, side_by_side, watched_memory

_STEP_SIZE = 1e-3
_SHAPE = ("depth", "units", "batch_size", "segment")


class Recomputed(keras.layers.Layer):
    """A run of layers whose activations are forgotten on the way forward and computed again on the way back.

    Args:
        layers: The layers, in order.
    """

    def __init__(self, layers: Sequence[keras.layers.Layer], **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.block = keras.Sequential(layers)

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Create the layers' weights."""
        self.block.build(shape)

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Run the layers under `keras.remat`."""
        return keras.remat(self.block)(x)


def deep_model(depth: int, units: int, *, segment: int | None = None) -> keras.Sequential:
    """Build a chain of equally wide Dense layers with ReLU.

    Args:
        depth: Number of layers.
        units: Of each layer, and number of inputs.
        segment: Layers that are recomputed together; without it every activation is stored.

    Returns:
        The model, from (rows, units) to (rows, units). Its initial weights (He normal, which keeps the size of
        activations: He et al. 2015) are the same at every call, whatever the segment.

    Raises:
        TypeError: A number is not whole.
        ValueError: A number is below 1, or the segment is longer than the chain.
    """
    depth, units = whole_number(depth, "depth", 1), whole_number(units, "units", 1)
    segment = depth + 1 if segment is None else whole_number(segment, "segment", 1, depth)
    initializers = [keras.initializers.HeNormal(seed=i) for i in range(depth)]
    layers = [keras.layers.Dense(units, "relu", kernel_initializer=initializer) for initializer in initializers]
    if segment <= depth:
        layers = [Recomputed(layers[i : i + segment]) for i in range(0, depth, segment)]
    return keras.Sequential([keras.Input((units,)), *layers])


def training_step(model: keras.Model) -> Callable[[keras.KerasTensor], None]:
    """Compile one step of gradient descent on the mean squared output, in graph mode.

    Args:
        model: From (rows, units) to (rows, units), as `deep_model` builds it.

    Returns:
        A function that takes the step on any number of rows: float32 of shape (rows, units).
    """
    import tensorflow as tf  # the one function that needs more than Keras

    @tf.function(input_signature=[tf.TensorSpec((None, model.input_shape[1]), tf.float32)])
    def step(rows: tf.Tensor) -> None:
        weights = model.trainable_weights
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(rows, training=True) ** 2)
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign(weight - _STEP_SIZE * gradient)

    return step.get_concrete_function()


def matrix_products(model: keras.Model) -> int:
    """Count the matrix products in one training step of a model, as it is compiled.

    Args:
        model: From (rows, units) to (rows, units), as `deep_model` builds it.

    Returns:
        Their number. The rows themselves need no derivative; a recomputed segment forms that of its input all the same.
    """
    return sum(operation.type == "MatMul" for operation in training_step(model).graph.get_operations())


def peak_memory(plan: pd.DataFrame, *, allowed: int | None = None) -> pd.DataFrame:
    """Measure the memory that training steps take at their peak.

    Each series has a process of its own, which takes its rows in turn. What is measured is the memory of the whole
    process, every millisecond, above its level once every step of the series has been compiled and has run on one row:
    models, graphs and what TensorFlow sets up once are not counted, since in a small experiment they would be as large
    as what is looked for. TensorFlow computes with the kernels of oneDNN, whatever the processor.

    Args:
        plan: One row a measurement. Columns: series (a name), depth, units, batch_size, segment (0 stores every
            activation). Within a series depth * units * batch_size must rise, since a process keeps what it once took.
        allowed: Mebibytes that each process may take beyond its level before the first step, where the system can
            limit that (`limit_memory`). A step that needs more ends its process, and the series with it.

    Returns:
        The plan with three further columns: activations, what the outputs of all layers take (depth * units *
        batch_size * 4 bytes); peak, what was measured, NaN from the first step on that needed more than was allowed;
        and limit, what the process may hold in all, NaN where none was set. All in mebibytes.

    Raises:
        TypeError: A number is not whole.
        ValueError: A column is missing, a number is out of range, or a series does not rise.
        RuntimeError: A measuring process failed.
    """
    missing = [name for name in ("series", *_SHAPE) if name not in plan]
    if missing:
        raise ValueError(f"peak_memory: the plan has no column {missing[0]}; it has {', '.join(map(str, plan))}.")
    for row in plan.itertuples():
        for name in ("depth", "units", "batch_size"):
            whole_number(getattr(row, name), name, 1)
        if row.segment != 0:
            whole_number(row.segment, "segment", 1, row.depth)
    plan = plan.assign(activations=plan["depth"] * plan["units"] * plan["batch_size"] * 4 / MEBIBYTE)
    every_series = plan.groupby("series", sort=False)
    for name, series in every_series:  # all of them, before the first process starts
        if not series["activations"].diff().iloc[1:].gt(0).all():
            raise ValueError(
                f"peak_memory: series {name!r} does not rise in depth * units * batch_size; sort its rows."
            )
    tasks = {
        f"peak_memory: the process of series {name!r}": {
            "shapes": series[list(_SHAPE)].to_dict("records"),
            "allowed": allowed,
        }
        for name, series in every_series
    }
    # A step keeps two cores busy, and what others do moves its peak. One that is refused memory keeps none busy: for
    # ten seconds TensorFlow waits for somebody to give memory back.
    at_once = max(1, process_cores() // 2) if allowed is None else len(tasks)
    measured = side_by_side(
        __spec__.name, tasks, at_once=at_once, unfinished=allowed is not None, **_environment(allowed)
    )
    for (_, series), found in zip(every_series, measured.values(), strict=True):
        plan.loc[series.index, "peak"] = found["peaks"] + [np.nan] * (len(series) - len(found["peaks"]))
        plan.loc[series.index, "limit"] = found["limit"]
    return plan.astype({"peak": float, "limit": float})


def step_seconds(models: Mapping[str, keras.Model], *, batch_size: int, repeats: int) -> pd.DataFrame:
    """Time training steps of several models, interleaved, after one untimed step of each.

    Args:
        models: The models by name.
        batch_size: Rows of the step.
        repeats: Timed steps of each model.

    Returns:
        Seconds, one row a repeat and one column a model.

    Raises:
        TypeError: A number is not whole.
        ValueError: A number is below 1.
    """
    batch_size = whole_number(batch_size, "batch_size", 1)
    steps = {name: (training_step(model), _random(batch_size, model.input_shape[1])) for name, model in models.items()}
    for step, x in steps.values():
        step(x)
    rows = []
    for _ in range(whole_number(repeats, "repeats", 1)):
        row = {}
        for name, (step, x) in steps.items():
            start = time.perf_counter()
            step(x)
            row[name] = time.perf_counter() - start
        rows.append(row)
    return pd.DataFrame(rows)


def _environment(allowed: int | None) -> dict[str, str]:
    # TensorFlow's other kernels, its choice where a processor lacks AVX-512, were seen to keep twice as much a layer.
    environment = {"TF_ENABLE_ONEDNN_OPTS": "1"}
    if allowed is not None:
        # The C library's store for each thread takes memory in large pieces, which a limit would count though unused.
        environment["MALLOC_ARENA_MAX"] = "2"
    return environment


def _measure(task: dict) -> None:
    for found in _peaks(**task):
        print(json.dumps(found), flush=True)


def _peaks(shapes: list[dict[str, int]], allowed: int | None) -> Iterator[dict]:
    """The worker's part: the limit and the peaks so far, in mebibytes, before the first shape and after each."""
    import tensorflow as tf

    steps = []
    for shape in shapes:
        step = training_step(deep_model(shape["depth"], shape["units"], segment=shape["segment"] or None))
        step(_random(1, shape["units"]))
        steps.append(step)
    found = {"peaks": [], "limit": None if allowed is None else limit_memory(allowed)}
    level = psutil.Process().memory_info().rss
    yield found
    for step, shape in zip(steps, shapes, strict=True):
        try:
            with watched_memory() as memory:
                x = _random(shape["batch_size"], shape["units"])
                step(x)
                step(x)
        except (MemoryError, tf.errors.ResourceExhaustedError):  # the kinder end; a signal is the usual one
            return
        found["peaks"].append((memory.most - level) / MEBIBYTE)
        yield found


def _random(rows: int, units: int) -> keras.KerasTensor:
    """Standard normal rows, on the device already."""
    return keras.ops.convert_to_tensor(np.random.default_rng(0).standard_normal((rows, units), dtype=np.float32))


if __name__ == "__main__":
    do_tasks(_measure)
