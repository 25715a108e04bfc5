"""Networks that people train: what BatchNormalization, Dropout, callbacks and convolutions cost beside a plain one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from calls import timed
from keras import layers

from batchlab.training import fit, fit_seeds

BATCH_SIZE = 32
RUNS, RUNS_OF_IMAGES = 64, 16
KINDS = ("plain", "BatchNormalization", "Dropout", "both")


def chain(kind: str) -> keras.Model:
    """Two layers of 16 units, normalised or with some of their outputs dropped, or both."""
    inner: list[keras.Layer] = []
    for _ in range(2):
        inner.append(layers.Dense(16))
        if kind in ("BatchNormalization", "both"):
            inner.append(layers.BatchNormalization())
        inner.append(layers.Activation("relu"))
        if kind in ("Dropout", "both"):
            inner.append(layers.Dropout(0.2))
    model = keras.Sequential([keras.Input((2,)), *inner, layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def of_images() -> keras.Model:
    """Two small convolutions, for the digits of 8 by 8 pixels."""
    inner = [layers.Conv2D(8, 3, activation="relu"), layers.MaxPooling2D(), layers.Conv2D(16, 3, activation="relu")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *inner, layers.Flatten(), layers.Dense(10, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@dataclass(frozen=True)
class Networks:
    """One model of each kind, trained before, on rows of a table; and images of digits.

    Attributes:
        x: Features, (rows, 2).
        y: Targets, (rows,).
        images: (rows, 8, 8, 1).
        digits: Which digits they are, (rows,).
        models: By kind.
        image_model: For the images.
        epochs: Of a call.
    """

    x: np.ndarray
    y: np.ndarray
    images: np.ndarray
    digits: np.ndarray
    models: dict[str, keras.Model]
    image_model: keras.Model
    epochs: int

    @classmethod
    def prepare(cls, x: np.ndarray, y: np.ndarray, epochs: int, kinds: Sequence[str] = KINDS) -> Networks:
        """Train everything once: a plain model, and others of these kinds."""
        generator = np.random.default_rng(0)  # what the pixels show takes no part in how long it takes
        images = generator.uniform(size=(320, 8, 8, 1)).astype(np.float32)
        digits = generator.integers(0, 10, 320)
        models = {kind: chain(kind) for kind in kinds}
        networks = cls(x, y, images, digits, models, of_images(), epochs)
        for call in networks.calls().values():
            call()
        return networks

    def calls(self) -> dict[str, Callable[[], object]]:
        """What is timed, by name."""
        whole = {"batch_size": BATCH_SIZE, "epochs": self.epochs}
        few = {"batch_size": BATCH_SIZE, "epochs": max(1, self.epochs // 50)}
        validated = whole | {"validation_data": (self.x[:80], self.y[:80])}
        plain = self.models["plain"]
        stops = lambda: [keras.callbacks.EarlyStopping(patience=self.epochs)]  # noqa: E731
        calls: dict[str, Callable[[], object]] = {
            f"fit, {kind}": lambda model=model: fit(model, self.x, self.y, **whole)
            for kind, model in self.models.items()
        }
        calls["fit, with validation"] = lambda: fit(plain, self.x, self.y, **validated)
        calls["fit, EarlyStopping"] = lambda: fit(plain, self.x, self.y, callbacks=stops(), **validated)
        calls |= {
            f"fit_seeds, {kind}": lambda kind=kind: fit_seeds(lambda: chain(kind), self.x, self.y, seeds=RUNS, **few)
            for kind in self.models
        }
        pictures = (self.images, self.digits)
        calls["fit, images, one run after the other"] = lambda: [
            fit(self.image_model, *pictures, **few) for _ in range(RUNS_OF_IMAGES)
        ]
        calls["fit_seeds, images"] = lambda: fit_seeds(of_images, *pictures, seeds=RUNS_OF_IMAGES, **few)
        return calls

    def sample(self) -> dict[str, float]:
        """Return seconds of each call, and of a first call of `fit` by each kind, compiling included."""
        seconds = {name: timed(call) for name, call in self.calls().items()}
        rows = len(self.x) + random.SystemRandom().randrange(1, 5000)  # so that no compiled program is found on disk
        x, y = (np.resize(array, (rows, *array.shape[1:])) for array in (self.x, self.y))
        for kind in self.models:
            seconds[f"first fit, {kind}"] = timed(lambda kind=kind: fit(chain(kind), x, y, batch_size=32, epochs=1))
        return seconds


def ratios(samples: list[dict[str, float]]) -> list[tuple[str, float, list[float]]]:
    """Return the ratios that have a limit: their names, the limits, a value for each sample that has both."""
    pairs = [(f"fit, {kind}", "fit, plain", 4) for kind in KINDS[1:]]
    pairs += [("fit, EarlyStopping", "fit, with validation", 4)]
    pairs += [(f"fit_seeds, {kind}", "fit_seeds, plain", 2) for kind in KINDS[1:]]
    pairs += [("fit_seeds, images", "fit, images, one run after the other", 0.25)]
    pairs += [(f"first fit, {kind}", "first fit, plain", 1.5) for kind in KINDS[1:]]
    return [
        (f"{above} / {below}", limit, [one[above] / one[below] for one in samples if above in one])
        for above, below, limit in pairs
    ]
