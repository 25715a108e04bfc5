"""What a training step of a deep network costs in memory, and what it costs to do with less.

Backpropagation keeps every layer's activations for the way back. Recomputation (gradient checkpointing: Griewank &
Walther 2000; Chen, Xu, Zhang & Guestrin 2016) keeps only those between segments, and computes the others again.
"""

from __future__ import annotations

import json
import numbers
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import psutil

_SOURCE = Path(__file__).resolve().parents[1]
_MEBIBYTE = 2**20


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


def deep_model(depth: int, units: int, *, segment: int | None = None, seed: int = 0) -> keras.Sequential:
    """Build a chain of equally wide Dense layers with ReLU.

    Args:
        depth: Number of layers.
        units: Of each layer, and number of inputs.
        segment: Layers that are recomputed together; without it every activation is stored.
        seed: Decides the initial weights (He normal, which keeps the size of activations: He et al. 2015).

    Returns:
        The model, from (rows, units) to (rows, units). The same seed gives the same weights whatever the segment.

    Raises:
        TypeError: A number is not whole.
        ValueError: A number is below 1, or the segment is longer than the chain.
    """
    depth, units = _whole(depth, "depth"), _whole(units, "units")
    segment = depth + 1 if segment is None else _whole(segment, "segment", most=depth)
    initializers = [keras.initializers.HeNormal(seed=seed * 100_003 + i) for i in range(depth)]
    layers = [keras.layers.Dense(units, "relu", kernel_initializer=initializer) for initializer in initializers]
    if segment <= depth:
        layers = [Recomputed(layers[i : i + segment]) for i in range(0, depth, segment)]
    return keras.Sequential([keras.Input((units,)), *layers])


def training_step(model: keras.Model, batch_size: int) -> callable:
    """Compile one step of gradient descent on random rows, in graph mode, and return a function that takes it.

    Raises:
        TypeError: The batch size is not whole.
        ValueError: The batch size is below 1.
    """
    import tensorflow as tf  # the one place that needs more than Keras

    rows = tf.constant(
        np.random.default_rng(0).standard_normal((_whole(batch_size, "batch_size"), model.input_shape[1])), tf.float32
    )

    @tf.function
    def step() -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(rows, training=True) ** 2)
        for variable, gradient in zip(
            model.trainable_weights, tape.gradient(loss, model.trainable_weights), strict=True
        ):
            variable.assign(variable - 1e-3 * gradient)

    return step.get_concrete_function()


def peak_memory(
    depths: Sequence[int], *, units: int, batch_size: int, segments: Sequence[int | None] = (None,)
) -> pd.DataFrame:
    """Measure the memory that a training step takes at its peak, against depth.

    For each segment length a process of its own goes through the depths in rising order. What is measured is the
    memory of the whole process, every millisecond, above its level before the first model was built.

    Args:
        depths: Numbers of layers, rising.
        units: Of each layer.
        batch_size: Rows of the step.
        segments: How many layers are recomputed together; None stores everything. The processes run side by side.

    Returns:
        One row a segment length and depth. Columns: segment (0 where everything is stored), depth, mebibytes.

    Raises:
        TypeError: A number is not whole.
        ValueError: A number is below 1, a segment is longer than the shallowest chain, or the depths do not rise.
        RuntimeError: A measuring process failed.
    """
    depths = [_whole(depth, "depths") for depth in depths]
    if depths != sorted(set(depths)):
        raise ValueError(f"`depths` is {depths}; give them in rising order, since a process keeps what it once took.")
    for segment in segments:
        if segment is not None:
            _whole(segment, "segments", most=depths[0])
    settings = {"depths": depths, "units": _whole(units, "units"), "batch_size": _whole(batch_size, "batch_size")}
    environment = os.environ | {"PYTHONPATH": str(_SOURCE), "TF_CPP_MIN_LOG_LEVEL": "3"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "batchlab.checkpointing", json.dumps(settings | {"segment": segment})],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for segment in segments
    ]
    rows = []
    for segment, worker in zip(segments, workers, strict=True):
        output, errors = worker.communicate()
        if worker.returncode:
            why = (errors.strip() or "it gave no reason").splitlines()[-1]
            raise RuntimeError(f"peak_memory: the process for segment {segment} failed: {why}")
        rows += [(segment or 0, depth, peak) for depth, peak in json.loads(output.splitlines()[-1])]
    return pd.DataFrame(rows, columns=["segment", "depth", "mebibytes"])


def step_seconds(models: dict[str, keras.Model], *, batch_size: int, repeats: int) -> pd.DataFrame:
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
    steps = {name: training_step(model, batch_size) for name, model in models.items()}
    for step in steps.values():
        step()
    rows = []
    for _ in range(_whole(repeats, "repeats")):
        row = {}
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            row[name] = time.perf_counter() - start
        rows.append(row)
    return pd.DataFrame(rows)


def _measure(depths: list[int], units: int, batch_size: int, segment: int | None) -> list[tuple[int, float]]:
    process = psutil.Process()
    training_step(deep_model(1, units), 1)()  # what TensorFlow sets up once is not the model's
    before = process.memory_info().rss
    peaks = []
    for depth in depths:
        step = training_step(deep_model(depth, units, segment=segment), batch_size)
        peak, stop = [0], threading.Event()

        def watch(peak: list[int] = peak, stop: threading.Event = stop) -> None:
            while not stop.wait(0.001):
                peak[0] = max(peak[0], process.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        for _ in range(2):
            step()
        stop.set()
        watcher.join()
        peaks.append((depth, (peak[0] - before) / _MEBIBYTE))
    return peaks


def _whole(value: int, name: str, most: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` is {value!r}; give a whole number.")
    if value < 1 or (most is not None and value > most):
        limits = "of at least 1" if most is None else f"from 1 to {most}, the number of layers"
        raise ValueError(f"`{name}` is {value}; give a whole number {limits}.")
    return int(value)


if __name__ == "__main__":
    print(json.dumps(_measure(**json.loads(sys.argv[1]))))
