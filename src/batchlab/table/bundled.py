"""Three tables that come with scikit-learn, to repeat conclusions on. Never scales, never splits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import sklearn.datasets

_LOADERS: dict[str, Callable] = {
    "breast_cancer": sklearn.datasets.load_breast_cancer,
    "digits": sklearn.datasets.load_digits,
    "wine": sklearn.datasets.load_wine,
}
BUNDLED = tuple(_LOADERS)
"""Their names: 569 rows of 30 features in 2 classes, 1797 of 64 in 10, 178 of 13 in 3."""


class Bundled(NamedTuple):
    """A table for classification.

    Attributes:
        x: Features, float32 of shape (rows, features), in the units of the source.
        y: Classes from 0, float32 of shape (rows,).
        classes: Their number.
    """

    x: np.ndarray
    y: np.ndarray
    classes: int


def load_bundled(name: str) -> Bundled:
    """Load one of the tables that scikit-learn ships.

    Args:
        name: One of `BUNDLED`.

    Raises:
        ValueError: There is no table of this name.
    """
    if name not in _LOADERS:
        raise ValueError(f"load_bundled: there is no table {name!r}; scikit-learn ships {', '.join(_LOADERS)}.")
    x, y = _LOADERS[name](return_X_y=True)
    return Bundled(x.astype(np.float32), y.astype(np.float32), int(y.max()) + 1)
