"""Epochs trained before they are asked for, as long as no callback looks at the model in between.

A callback that reads the figures of an epoch and no more need not wait for the program, nor the program for it. If one
does look at the model, the model is brought back to the epoch at which the callback is: to its values before a block of
epochs, and from there through the same epochs once more, which give the same to the last bit.

Which callbacks look is not a matter of their names. One that could reach the model in an unseen way is never trained
ahead of (`is_closed`); the others are handed a `View`, which sees them look.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from types import FunctionType
from typing import Any

import keras
import numpy as np

from batchlab.training.programs.single import AtWork
from batchlab.training.state import read, write

_BLOCK_SECONDS = 0.1  # of a block: Ctrl-C is answered, and a progress bar moves, between two of them


class Ahead:
    """The epochs of a run, one after the other; until it is asked to `settle`, the model may be further on.

    Args:
        work: The program at work on the model.
        orders: Of the rows, one for each epoch.
        may: Whether to train ahead at all.
    """

    def __init__(self, work: AtWork, orders: Iterable[np.ndarray], *, may: bool) -> None:
        self._work = work
        self._orders: Iterator[np.ndarray] = iter(orders)
        self._again: deque[np.ndarray] = deque()  # orders of epochs that were taken back
        self._may = may
        self._size = 1  # of the next block
        self._block: list[np.ndarray] = []
        self._figures: dict[str, np.ndarray] = {}
        self._before: list = []
        self._given = 0  # epochs of the block that have been handed out

    def next(self) -> dict[str, Any]:
        """Return the figures of the next epoch."""
        if self._given == len(self._block):
            self._train_block()
        self._given += 1
        return {name: values[self._given - 1] for name, values in self._figures.items()}

    def skip(self) -> np.ndarray:
        """Leave the next epoch to somebody else; return its order of the rows."""
        self.settle()
        self._block, self._given = [], 0
        return self._again.popleft() if self._again else next(self._orders)

    def settle(self) -> None:
        """Leave the model as it is after the epoch that was handed out last."""
        self._size = 1
        if self._given < len(self._block):
            self._go_back(self._given)

    def undo(self) -> np.ndarray:
        """Leave the model as it was before the epoch that was handed out last; return that one's order of the rows."""
        order = self._block[self._given - 1]
        self._go_back(self._given - 1)
        self._again.popleft()
        return order

    def _train_block(self) -> None:
        size = min(self._size, self._work.epochs) if self._may else 1
        orders = (self._again.popleft() if self._again else next(self._orders, None) for _ in range(size))
        self._block = [order for order in orders if order is not None]
        self._before = read(self._work.variables)
        self._given = 0
        start = time.perf_counter()
        self._figures = self._work.train(self._block)
        seconds = (time.perf_counter() - start) / len(self._block)
        self._size = max(1, min(2 * size, int(_BLOCK_SECONDS / seconds)))

    def _go_back(self, given: int) -> None:
        """Bring the model to the state after the first so many epochs of the block, and have the others come again."""
        write(self._work.variables, self._before)
        if given:
            self._work.train(self._block[:given])
        self._again.extendleft(reversed(self._block[given:]))
        self._block = self._block[:given]
        self._given = given


class View:
    """A model, or its optimizer, as callbacks see it: to look at it has it settled first.

    Args:
        seen: The model, or the optimizer.
        settle: Called before anything is looked at that training changes.
    """

    def __init__(self, seen: keras.Model | keras.optimizers.Optimizer, settle: Any) -> None:  # noqa: ANN401
        vars(self).update(_seen=seen, _settle=settle)

    @property
    def __class__(self) -> type:
        return type(self._seen)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        seen = self._seen
        if name == "optimizer" and isinstance(seen, keras.Model):
            return View(seen.optimizer, self._settle)
        found = getattr(seen, name)
        if name == "learning_rate" and isinstance(found, keras.Variable):
            return found  # training does not change it, unless it follows a schedule
        if _is_plain(found, None):
            return found
        self._settle()
        return getattr(seen, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name not in ("stop_training", "history"):  # on these no step depends
            self._settle()
        setattr(self._seen, name, value)

    def __call__(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401, D102
        self._settle()
        return self._seen(*arguments, **named)


def is_closed(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback can reach its model through `callback.model` alone.

    Keras's own can, if what they hold is plain data; a user's own code may know the model from elsewhere.
    """
    return _is_of_libraries(type(callback)) and all(
        _is_plain(value, callback) for name, value in vars(callback).items() if name != "_model"
    )


def _is_of_libraries(thing: Any) -> bool:  # noqa: ANN401
    return (getattr(thing, "__module__", None) or "").partition(".")[0] in ("keras", "numpy", "batchlab")


def _is_plain(value: object, owner: object) -> bool:
    """Whether a value leads to no model: numbers, texts, arrays, and functions of libraries that know no more."""
    if isinstance(value, list | tuple | set | frozenset):
        return all(_is_plain(item, owner) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(item, owner) for item in (*value, *value.values()))
    if isinstance(value, FunctionType):
        held = [cell.cell_contents for cell in value.__closure__ or ()]
        return _is_of_libraries(value) and all(item is owner or _is_plain(item, owner) for item in held)
    return value is None or isinstance(value, bool | int | float | str | bytes | np.generic | np.ndarray | np.ufunc)
