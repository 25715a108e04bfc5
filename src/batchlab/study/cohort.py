"""Many networks as one Keras model, each on rows of its own: paired runs over repeated splits. Never splits.

Networks that differ in their rows cannot share a call of `fit_seeds`. Here the member is an axis of every array, in the
data too, so that `fit` trains all of them at once: each step takes from every member's own rows those in the same
places. What one member learns does not touch the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import keras
import numpy as np
import pandas as pd

from batchlab.checks import whole_number
from batchlab.models import build_model
from batchlab.training.weights import drawer


def stack(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Lay the rows of several members beside each other.

    Args:
        parts: For each member its features, shape (rows, features), and its targets, shape (rows,), 0 or 1.

    Returns:
        Features of shape (rows, members, features) and targets of shape (rows, members, 1), float32.

    Raises:
        ValueError: There is no member, or two differ in shape.
    """
    shapes = [(np.shape(x), np.shape(y)) for x, y in parts]
    if not shapes or len(set(shapes)) > 1:
        other = next((k for k, shape in enumerate(shapes) if shape != shapes[0]), None)
        told = "there is none" if other is None else f"member 0 has {shapes[0]}, member {other} has {shapes[other]}"
        raise ValueError(f"stack: every member needs rows of the same shape; {told}.")
    x, y = (np.stack([part[i] for part in parts], axis=1).astype(np.float32) for i in (0, 1))
    return x, y[..., None]


def build_cohort(
    seeds: Sequence[int],
    hidden: Sequence[int] = (10, 10),
    *,
    features: int = 2,
    optimizer: str | keras.optimizers.Optimizer = "rmsprop",
    dropout: float = 0.0,
) -> keras.Sequential:
    """Build and compile a cohort of binary classifiers, each as `build_model` makes it.

    Args:
        seeds: For each member the seed of its initial weights, those of `build_model(hidden, seed=seed)`; a seed may
            occur several times.
        hidden: Units of each hidden layer.
        features: Number of input columns.
        optimizer: SGD, RMSprop, Adam or AdamW, as one member alone would be trained with.
        dropout: Share of a hidden layer's outputs that each step drops (Srivastava et al. 2014).

    Returns:
        The compiled model; it maps what `stack` returns to probabilities of shape (rows, members, 1). Its loss is the
        mean over rows and members.

    Raises:
        TypeError: A size is not a whole number, or the optimizer is of another kind.
        ValueError: There is no seed, or a size or a share is out of range.
    """
    members = whole_number(len(seeds), "the number of seeds", 1)
    pattern = build_model(hidden, features=features)
    layers: list[keras.layers.Layer] = [keras.Input((members, features))]
    for dense in pattern.layers:
        layers.append(
            keras.layers.EinsumDense(
                "bmi,mio->bmo", (members, dense.units), activation=dense.activation, bias_axes="mo"
            )
        )
        if dropout and dense is not pattern.layers[-1]:
            layers.append(keras.layers.Dropout(dropout))
    cohort = keras.Sequential(layers)
    # EinsumDense's own initial weights would be those of one layer with members * units.
    for variable, values in zip(cohort.trainable_variables, drawer(pattern)(seeds), strict=True):
        variable.assign(values)
    cohort.compile(_for_mean(keras.optimizers.get(optimizer), members), "binary_crossentropy", metrics=["accuracy"])
    return cohort


def _for_mean(optimizer: keras.optimizers.Optimizer, members: int) -> keras.optimizers.Optimizer:
    """The optimizer that gives each member its own step, although the mean over members makes gradients smaller."""
    config = optimizer.get_config()
    if type(optimizer) is keras.optimizers.SGD and not optimizer.weight_decay:
        config["learning_rate"] *= members
    elif isinstance(optimizer, keras.optimizers.Adam):  # AdamW too
        config["epsilon"] /= members  # it is added to the gradient's size, by which the gradient is divided
    elif type(optimizer) is keras.optimizers.RMSprop:
        config["epsilon"] /= members**2  # here to its square
    else:
        raise TypeError(
            f"build_cohort: {type(optimizer).__name__} is none of SGD (without decay), RMSprop, Adam, AdamW; give one."
        )
    return type(optimizer).from_config(config)


def member_weights(cohort: keras.Model, member: int) -> list[np.ndarray]:
    """Return one member's weights, as `get_weights()` of the same network by `build_model` has them."""
    return [variable.numpy()[member] for variable in cohort.trainable_variables]


def measure(cohort: keras.Model, x: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    """Measure every member on rows of its own.

    Args:
        cohort: What `build_cohort` returns.
        x: Features, shape (rows, members, features).
        y: Targets, shape (rows, members, 1).

    Returns:
        One row a member. Columns: member, loss (nats), accuracy (share of rows).
    """
    given = keras.ops.convert_to_numpy(cohort(x, training=False))
    losses = keras.ops.convert_to_numpy(keras.losses.binary_crossentropy(y, given))
    right = (given > 0.5) == (y > 0.5)
    return pd.DataFrame(
        {"member": np.arange(x.shape[1]), "loss": losses.mean(axis=0), "accuracy": right.mean(axis=(0, 2))}
    )


class MemberCurves(keras.callbacks.Callback):
    """Measures every member after some of the epochs.

    Args:
        rows: For each name features and targets, as `stack` returns them.
        epochs: Those after which to measure, counted from 1; every one without it.

    Attributes:
        frame: One row a name (`part`), epoch and member, with what `measure` says.
    """

    def __init__(self, rows: Mapping[str, tuple[np.ndarray, np.ndarray]], epochs: Iterable[int] | None = None) -> None:
        super().__init__()
        self._rows = dict(rows)
        self._epochs = None if epochs is None else set(epochs)
        self._found: list[pd.DataFrame] = []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Measure, where this epoch is one of those."""
        if self._epochs is None or epoch + 1 in self._epochs:
            for name, rows in self._rows.items():
                self._found.append(measure(self.model, *rows).assign(part=name, epoch=epoch + 1))

    @property
    def frame(self) -> pd.DataFrame:
        """What was measured so far."""
        return pd.concat(self._found, ignore_index=True)[["part", "epoch", "member", "loss", "accuracy"]]


def stopping_epochs(losses: np.ndarray, patience: int) -> np.ndarray:
    """Return for each run the epoch whose weights early stopping keeps.

    Training stops when the loss has not reached a new low for `patience` epochs, and the weights of the lowest are
    restored, as by `keras.callbacks.EarlyStopping` with restore_best_weights (Prechelt 1998, "Early stopping, but
    when?").

    Args:
        losses: Loss on the rows that decide, after each epoch, shape (epochs, runs).
        patience: Epochs without improvement, at least 1.

    Returns:
        Epochs counted from 1, shape (runs,).

    Raises:
        TypeError: `patience` is no whole number.
        ValueError: It is below 1.
    """
    patience = whole_number(patience, "patience", 1)
    epochs = np.arange(len(losses))[:, None]
    lowest = np.minimum.accumulate(losses)
    new = np.vstack([np.ones_like(losses[:1], bool), lowest[1:] < lowest[:-1]])
    latest = np.maximum.accumulate(np.where(new, epochs, 0))
    stopped = epochs - latest >= patience
    last = np.where(stopped.any(axis=0), stopped.argmax(axis=0), len(losses) - 1)
    return latest[last, np.arange(losses.shape[1])] + 1
