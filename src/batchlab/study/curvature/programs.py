"""The compiled programs behind `LossSurface`, kept for the next model of the same structure. Never keeps weights."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from batchlab.training import keras_internals as internals
from batchlab.training.programs.loop import CannotCompileError, Compiled
from batchlab.training.rows import Rows
from batchlab.training.subject import Subject

_KEPT = 16

_known: OrderedDict[tuple, Programs] = OrderedDict()  # by key, the one used last at the end
_lock = threading.Lock()


def programs_for(model: keras.Model, data: Rows) -> Programs:
    """Return the programs that serve a built model on data of these shapes; several threads may share them."""
    subject = Subject.of(model, data.part(0, 1).data)
    key = (*subject.key, data.signature())
    with _lock:
        if key not in _known:
            _known[key] = Programs(subject)
        _known.move_to_end(key)
        while len(_known) > _KEPT:
            _known.popitem(last=False)
        return _known[key]


class Programs:
    """The loss and its derivatives, as functions of (parameters, state, data), each compiled at its first call.

    Parameters are a vector of shape (P,), the state holds the values of the model's variables that are not trained, and
    data are [x, y] or [x, y, weight].

    Args:
        subject: A built model; it serves as the pattern for all models of its structure.

    Attributes:
        dtype: Of the parameters: "float64" if all of the model's are, else "float32".
        all_rows: Returns the loss and its gradient, shape (P,).
        each_row: Returns the loss, shape (rows,), and the gradient, shape (rows, P), of each row alone.
        hessian_product: Takes a vector besides, shape (P,), and returns the Hessian times it.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject.clone()
        self._model = self._subject.model
        variables = self._model.trainable_variables
        self._shapes = [tuple(v.shape) for v in variables]
        self._dtypes = [v.dtype for v in variables]
        self.dtype = "float64" if all(dtype == "float64" for dtype in self._dtypes) else "float32"
        self.all_rows = _AtFirstCall(self._all_rows)
        self.each_row = _AtFirstCall(self._each_row)
        self.hessian_product = _AtFirstCall(self._hessian_product)
        self._together: dict[int, tuple[Callable, Callable]] = {}

    def together(self, networks: int) -> tuple[Callable, Callable]:
        """Return `all_rows` and `hessian_product` of so many networks at once, every argument with them in axis 0."""

        def of_each(function: Callable) -> _AtFirstCall:
            return _AtFirstCall(lambda *stacked: tf.vectorized_map(lambda one: function(*one), stacked, warn=False))

        return self._together.setdefault(networks, (of_each(self._all_rows), of_each(self._hessian_product)))

    def _loss(self, theta: tf.Tensor, state: list, x: Any, y: Any, weight: Any = None) -> tf.Tensor:  # noqa: ANN401
        parts = tf.split(theta, [int(np.prod(shape)) for shape in self._shapes])
        weights = [
            tf.cast(tf.reshape(part, shape), dtype)
            for part, shape, dtype in zip(parts, self._shapes, self._dtypes, strict=True)
        ]
        predicted, _, penalties = self._model.stateless_call(weights, state, x, training=False, return_losses=True)
        loss = internals.compiled_loss(self._model)(y, predicted, weight)
        return tf.add_n([tf.cast(term, self.dtype) for term in (loss, *penalties)])

    def _all_rows(self, theta: tf.Tensor, state: list, data: list) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(theta)
            loss = self._loss(theta, state, *data)
        return loss, tape.gradient(loss, theta, unconnected_gradients="zero")

    def _each_row(self, theta: tf.Tensor, state: list, data: list) -> tuple[tf.Tensor, tf.Tensor]:
        def of_one(row: list) -> tuple[tf.Tensor, tf.Tensor]:
            return self._all_rows(theta, state, keras.tree.map_structure(lambda leaf: leaf[None], row))

        return tf.vectorized_map(of_one, data, warn=False)

    def _hessian_product(self, theta: tf.Tensor, state: list, data: list, v: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(theta)
            along = tf.reduce_sum(self._all_rows(theta, state, data)[1] * v)
        return tape.gradient(along, theta, unconnected_gradients="zero")


class _AtFirstCall:
    """A function that its first call compiles, for all arguments of the same shapes; without XLA where that cannot."""

    def __init__(self, function: Callable) -> None:
        self._function = function
        self._call: Callable | None = None
        self._compiling = threading.Lock()

    def __call__(self, *arguments: Any) -> Any:  # noqa: ANN401
        with self._compiling:  # a thread that comes meanwhile waits, and uses what the first one compiled
            if self._call is None:
                self._call = self._compiled(*arguments)
        return self._call(*arguments)

    def _compiled(self, *arguments: Any) -> Callable:  # noqa: ANN401
        try:
            call = Compiled(self._function, *arguments)
            call.compile()
        except CannotCompileError:
            return tf.function(self._function, autograph=False)
        return call
