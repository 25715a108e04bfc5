"""Tables of any size whose best possible result is known. Never trains.

No classifier can do better than the one that knows the chances themselves, named after Bayes. On a real table nobody
knows how good that is; on a generated one its loss and its error are integrals over one variable.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.integrate
import scipy.special

from batchlab.checks import positive_number, whole_number

_WIDEST = 9.0  # standard deviations; beyond lies less than 1e-18 of a normal variable


@dataclass(frozen=True)
class Waves:
    """Two classes whose border is a number of parallel lines.

    The features are independent standard normal variables. With u their sum over the square root of their number, which
    is standard normal too, class 1 has the chance sigmoid(steepness * sin(waves * u)).

    Attributes:
        waves: How complex the table is: at 1 nearly all rows lie beside one border, at 4 there are some five
            borders among the bulk of the rows. Above 0.
        steepness: How sharp the borders are. Above 0.
        features: Number of columns.
    """

    waves: float
    steepness: float = 4.0
    features: int = 2

    def __post_init__(self) -> None:
        """Refuse what is no such table."""
        positive_number(self.waves, "waves")
        positive_number(self.steepness, "steepness")
        whole_number(self.features, "features", 1)

    def draw(self, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw rows.

        Args:
            rows: Their number.
            seed: Decides them.

        Returns:
            Features, float32 of shape (rows, features), and classes, float32 of shape (rows,).

        Raises:
            TypeError: A number is not whole.
            ValueError: `rows` is below 1, or the seed below 0.
        """
        generator = np.random.default_rng(whole_number(seed, "seed", 0))
        x = generator.standard_normal((whole_number(rows, "rows", 1), self.features), dtype=np.float32)
        return x, (generator.random(rows, dtype=np.float32) < self.chances(x)).astype(np.float32)

    def chances(self, x: np.ndarray) -> np.ndarray:
        """Return each row's chance of class 1, which the best classifier predicts.

        Args:
            x: Features, shape (rows, features).

        Returns:
            Shape (rows,), of the type of `x`.
        """
        return self._chance(x.sum(axis=1) / np.asarray(math.sqrt(self.features), x.dtype))

    def bayes_loss(self) -> float:
        """Return the least possible mean cross-entropy, in nats: the mean entropy of a row's class."""

        def entropy(u: float) -> float:
            chance = self._chance(u)
            return scipy.special.entr(chance) + scipy.special.entr(1 - chance)

        return self._mean(entropy)

    def bayes_error(self) -> float:
        """Return the least possible share of wrongly classified rows: the mean chance of a row's less likely class."""
        return self._mean(lambda u: min(self._chance(u), 1 - self._chance(u)))

    def _chance(self, u: np.ndarray) -> np.ndarray:
        return scipy.special.expit(self.steepness * np.sin(self.waves * u))

    def _mean(self, figure: Callable[[float], float]) -> float:
        """The mean of a function of u, integrated from border to border, since it may bend sharply there."""
        last = math.floor(_WIDEST * self.waves / math.pi)
        borders = [0.0, *(k * math.pi / self.waves for k in range(1, last + 1)), _WIDEST]

        def weighted(u: float) -> float:
            return figure(u) * math.exp(-u * u / 2)

        half = sum(scipy.integrate.quad(weighted, low, high, epsabs=1e-13)[0] for low, high in pairwise(borders))
        return 2 * half / math.sqrt(2 * math.pi)  # both figures are even in u
