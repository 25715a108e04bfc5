"""Who is measured where there is a graphics card: networks of several sizes, on the card and on the processor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from contestants import Contestant, Task

import helpers
from batchlab.training import fit
from batchlab.training.programs import cache, device

PROCESSOR, CARD = "CPU:0", None  # as `device_for` names them


@dataclass(frozen=True)
class Chain:
    """A chain of Dense layers, and how many rows it is given at once.

    Attributes:
        widths: Features, units of each hidden layer, and one output.
        batch_size: Rows of a batch.
    """

    widths: tuple[int, ...]
    batch_size: int

    @property
    def name(self) -> str:
        """As tables show it."""
        return "-".join(map(str, self.widths))

    def model(self) -> keras.Model:
        """Build and compile it, as the documented one."""
        return helpers.build_model(self.widths[1:-1], features=self.widths[0])

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return eight batches of noise."""
        generator = np.random.default_rng(0)
        x = generator.normal(size=(8 * self.batch_size, self.widths[0])).astype(np.float32)
        return x, (x[:, 0] > 0).astype(np.float32)

    def operations(self) -> int:
        """Floating-point operations of an update, about."""
        return device.operations(self.model(), self.batch_size)


CHAINS = (
    Chain((2, 10, 10, 1), 1),
    Chain((2, 10, 10, 1), 32),
    Chain((2, 10, 10, 1), 250),
    Chain((8, 64, 64, 1), 32),
    Chain((32, 128, 128, 1), 32),
    Chain((128, 512, 512, 1), 32),
    Chain((128, 512, 512, 1), 256),
    Chain((784, 2048, 2048, 1), 256),
)


def cards() -> list[str]:
    """Name the graphics cards that TensorFlow finds."""
    found = tf.config.list_physical_devices("GPU")
    return [tf.config.experimental.get_device_details(card).get("device_name", card.name) for card in found]


def contestants(chain: Chain) -> Iterator[Contestant]:
    """Yield who trains this network: Keras, and `fit` where it is told to."""
    yield Contestant("model.fit", partial(_by_keras, chain))
    yield Contestant("fit, processor", partial(_by_ours, chain, PROCESSOR))
    yield Contestant("fit, card", partial(_by_ours, chain, CARD))


def choice(chain: Chain) -> str:
    """Name the contestant that `fit` is when it chooses for itself."""
    return "fit, processor" if device.device_for(chain.model(), chain.batch_size) == PROCESSOR else "fit, card"


def _by_keras(chain: Chain, x: np.ndarray, y: np.ndarray, batch_size: int) -> Task:
    model = chain.model()
    return Task(lambda epochs: model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0).history["loss"][-1])


def _by_ours(chain: Chain, where: str | None, x: np.ndarray, y: np.ndarray, batch_size: int) -> Task:
    model = chain.model()

    def run(epochs: int) -> float:
        with mock.patch.object(cache, "device_for", lambda *_, **__: where):
            return fit(model, x, y, batch_size=batch_size, epochs=epochs).history["loss"][-1]

    return Task(run)
