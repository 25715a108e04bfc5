"""A model's loss as a function of its weights: values and derivatives, for all rows and row by row. Never trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from scipy.sparse.linalg import LinearOperator

from batchlab.study.curvature.programs import programs_for
from batchlab.training import keras_internals as internals
from batchlab.training.rows import Tree, prepare


class NotFiniteError(ValueError):
    """Weights hold NaN or infinity, or a loss or a derivative became it."""


class Place(NamedTuple):
    """Weights, taken apart: the trainable ones as one vector, and what the model keeps besides."""

    parameters: np.ndarray
    state: list


Weights = np.ndarray | Sequence[np.ndarray] | Place | None
"""A vector of all trainable parameters, a list as `model.get_weights()` gives it, or None for the model's own."""


class LossSurface:
    """The loss of a model on given rows, as compiled, penalties included, by the forward pass of `training=False`.

    Each method is compiled at its first call, for all weights of this model and for all models of the same structure
    on data of the same shape: a later call takes a fraction of a millisecond for a small network. The model is never
    changed, except that Keras builds its optimizer, as `fit` would.

    Where weights are asked for, `None` means those that the model has at that moment. A vector leaves the model its
    state that is not trained, such as the averages of BatchNormalization; a list as `model.get_weights()` gives it
    brings its own.

    Arithmetic is in float32, and a derivative is then right to about 1e-6 of the largest, or in float64, for a model
    whose weights and whose loss are float64. Second derivatives of ReLU are taken as zero, so for a ReLU network the
    Hessian is that of the smooth piece on which the weights lie.

    Attributes:
        size: P, the number of trainable parameters.
        rows: n, the number of rows.
        data: Features, targets and weights, as the programs take them.
        programs: What is compiled, shared by surfaces of one structure.
        dtype: In which it computes.
    """

    def __init__(self, model: keras.Model, x: Tree, y: Tree, sample_weight: Tree | None = None) -> None:
        """Take a model and the rows on which its loss is measured; nothing is compiled yet.

        Args:
            model: A built and compiled model.
            x: Features, shape (rows, …), or a list or dict of such arrays.
            y: Targets, shape (rows, …), or a list or dict of such arrays.
            sample_weight: One weight a row.

        Raises:
            TypeError: `model` is no Keras model.
            ValueError: The model is not built, not compiled, has nothing to train, or computes its loss by a method of
                its own; lengths differ; the data hold NaN or infinity.
        """
        _require_loss(model)
        data, _ = prepare(
            x, y, sample_weight=sample_weight, class_weight=None, validation_split=0.0, validation_data=None
        )
        internals.build(model, data.part(0, 1).data)
        self.size = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
        self.rows = len(data)
        self._model = model
        self.programs = programs_for(model, data)
        self.dtype = self.programs.dtype
        self.data = keras.tree.map_structure(tf.constant, [tree for tree in data.data if tree is not None])
        self._mean_over_rows = False  # not known yet

    # --- weights -------------------------------------------------------------------------------------

    def flat(self, weights: Weights = None) -> np.ndarray:
        """Return the trainable parameters as one vector of shape (P,), in the order of `model.trainable_variables`.

        Raises:
            ValueError: The weights do not fit the model.
            NotFiniteError: They hold NaN or infinity.
        """
        return self.place(weights).parameters

    def place(self, weights: Weights = None) -> Place:
        """Return weights as the other methods use them: checked, trainable ones apart; they are taken as weights too.

        Raises:
            ValueError: The weights do not fit the model.
            NotFiniteError: They hold NaN or infinity.
        """
        if isinstance(weights, list | tuple) and not isinstance(weights, Place):
            place = self._from_list(weights)
        elif weights is None:
            place = Place(_joined([v.numpy() for v in self._model.trainable_variables]), self._state())
        else:
            place = weights if isinstance(weights, Place) else Place(weights, self._state())
        parameters = np.asarray(place.parameters, self.dtype)
        if parameters.shape != (self.size,):
            raise ValueError(
                f"The weights have shape {parameters.shape}; give the {self.size} trainable parameters as a vector of "
                f"shape ({self.size},), or a list as model.get_weights() returns it."
            )
        if not np.isfinite(parameters).all():
            raise NotFiniteError(
                f"The weights hold {parameters[~np.isfinite(parameters)][0]} at parameter "
                f"{np.flatnonzero(~np.isfinite(parameters))[0]}; a run that diverged has no curvature to measure."
            )
        return Place(parameters, place.state)

    def _from_list(self, weights: Sequence[np.ndarray]) -> Place:
        own = self._model.weights
        shapes = [tuple(v.shape) for v in own]
        if [np.shape(w) for w in weights] != shapes:
            raise ValueError(f"A list of weights must have the shapes that model.get_weights() has: {shapes}.")
        given = {id(v): np.asarray(w, v.dtype) for v, w in zip(own, weights, strict=True)}
        return Place(
            _joined([given[id(v)] for v in self._model.trainable_variables]),
            [given[id(v)] if id(v) in given else v.numpy() for v in self._model.non_trainable_variables],
        )

    def _state(self) -> list:
        return [v.numpy() for v in self._model.non_trainable_variables]

    # --- over all rows -------------------------------------------------------------------------------

    def value(self, w: Weights = None) -> float:
        """Return the loss."""
        return self.value_and_gradient(w)[0]

    def gradient(self, w: Weights = None) -> np.ndarray:
        """Return the gradient, shape (P,)."""
        return self.value_and_gradient(w)[1]

    def value_and_gradient(self, w: Weights = None) -> tuple[float, np.ndarray]:
        """Return the loss and its gradient, of shape (P,), from one pass."""
        value, gradient = self.programs.all_rows(*self.place(w), self.data)
        return float(value), gradient.numpy()

    def hessian_product(self, w: Weights, v: np.ndarray) -> np.ndarray:
        """Return the Hessian times a vector, shape (P,), by differentiating twice (Pearlmutter 1994).

        Raises:
            ValueError: The vector does not have shape (P,), or the weights do not fit.
        """
        return self._products(self.place(w))(v)

    def hessian(self, w: Weights = None) -> LinearOperator:
        """Return the Hessian, symmetric and of shape (P, P), as a linear operator that is never written out.

        A product with it raises NotFiniteError if the result is not finite.
        """
        product = self._products(self.place(w))

        def finite(v: np.ndarray) -> np.ndarray:
            result = product(v.ravel())
            if not np.isfinite(result).all():
                raise NotFiniteError("The second derivatives are not finite at these weights: the loss has overflown.")
            return result

        return LinearOperator((self.size, self.size), matvec=finite, rmatvec=finite, dtype=np.float64)

    def _products(self, place: Place) -> Callable[[np.ndarray], np.ndarray]:
        # Handed over once, not with every vector.
        placed = keras.tree.map_structure(tf.constant, tuple(place))

        def product(v: np.ndarray) -> np.ndarray:
            v = np.asarray(v, self.dtype)
            if v.shape != (self.size,):
                raise ValueError(f"The vector has shape {v.shape}; the Hessian needs one of shape ({self.size},).")
            return self.programs.hessian_product(*placed, self.data, v).numpy()

        return product

    # --- row by row ----------------------------------------------------------------------------------

    def row_losses(self, w: Weights = None) -> np.ndarray:
        """Return the loss of every row, shape (rows,): that of a batch which holds this row alone, penalties included.

        Raises:
            ValueError: The loss is not the mean of these, as with a reduction by sum, so rows have no loss of their
                own.
        """
        return self._by_row(w)[0].numpy()

    def row_gradients(self, w: Weights = None) -> np.ndarray:
        """Return the gradient of every row's loss, shape (rows, P); their mean is the gradient.

        Raises:
            ValueError: As `row_losses` does.
        """
        return self._by_row(w)[1].numpy()

    def _by_row(self, w: Weights) -> tuple[tf.Tensor, tf.Tensor]:
        place = self.place(w)
        losses, gradients = self.programs.each_row(*place, self.data)
        if not self._mean_over_rows and np.isfinite(together := self.value(place)):
            alone = losses.numpy().astype(np.float64)
            if abs(alone.mean() - together) > 1e-4 * np.abs(alone).mean():
                raise ValueError(
                    f"The loss of all rows is {together:.6g}, the mean over the rows' own losses {alone.mean():.6g}: "
                    "this loss is not a mean over rows. Compile the model with the reduction 'sum_over_batch_size', "
                    "and without penalties on activities."
                )
            self._mean_over_rows = True
        return losses, gradients


class LossSurfaces:
    """The losses of several networks of one structure, each on rows of its own, from one program for all of them.

    For small networks a call costs more than what it computes: for 64 documented ones together it takes a fifth to a
    tenth of the processor time of 64 calls.

    Attributes:
        single: The surfaces, one a network.
        size: P, the number of trainable parameters of one network.
    """

    def __init__(self, surfaces: Sequence[LossSurface]) -> None:
        """Take the surfaces; nothing is compiled yet.

        Raises:
            ValueError: There is none, or models or data of two of them differ in structure or shape.
        """
        self.single = list(surfaces)
        if not self.single:
            raise ValueError("LossSurfaces: there is no surface; give at least one.")
        for k, surface in enumerate(self.single):
            if surface.programs is not self.single[0].programs:
                raise ValueError(
                    f"LossSurfaces: surface {k} differs from surface 0 in the structure of its model or the shape of "
                    "its data; give surfaces of one structure."
                )
        self.size = self.single[0].size
        self._data = keras.tree.map_structure(lambda *one: tf.stack(one), *(s.data for s in self.single))
        self._all_rows, self._hessian_product = self.single[0].programs.together(len(self.single))

    def places(self, weights: Sequence[Weights]) -> Place:
        """Return weights as the other methods use them, with the networks in the first axis of every array.

        Raises:
            ValueError: There is not one set of weights for each network, or one does not fit.
            NotFiniteError: They hold NaN or infinity.
        """
        if len(weights) != len(self.single):
            raise ValueError(
                f"LossSurfaces: {len(weights)} sets of weights for {len(self.single)} networks; give one each."
            )
        found = [surface.place(w) for surface, w in zip(self.single, weights, strict=True)]
        return Place(
            np.stack([place.parameters for place in found]),
            [np.stack(values) for values in zip(*(place.state for place in found), strict=True)],
        )

    def values_and_gradients(self, places: Place) -> tuple[np.ndarray, np.ndarray]:
        """Return each network's loss, shape (networks,), and its gradient, shape (networks, P)."""
        parameters = places.parameters.astype(self.single[0].dtype)
        values, gradients = self._all_rows(parameters, places.state, self._data)
        return values.numpy().astype(np.float64), gradients.numpy()

    def hessian_products(self, places: Place, v: np.ndarray) -> np.ndarray:
        """Return each network's Hessian times a vector of its own; vectors and products of shape (networks, P).

        Raises:
            NotFiniteError: A product is not finite.
        """
        dtype = self.single[0].dtype
        products = self._hessian_product(
            places.parameters.astype(dtype), places.state, self._data, v.astype(dtype)
        ).numpy()
        if len(broken := np.flatnonzero(~np.isfinite(products).all(axis=1))):
            raise NotFiniteError(
                f"The second derivatives of network {broken[0]} are not finite at these weights: its loss overflows."
            )
        return products.astype(np.float64)


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays])


def _require_loss(model: keras.Model) -> None:
    """Insist on a model that has weights and a loss.

    Raises:
        TypeError: It is no Keras model.
        ValueError: It is not built or not compiled, or its loss is not the one that it was compiled with.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` is a {type(model).__name__}; give a built and compiled keras.Model.")
    name = f"The model {model.name!r}"
    if not model.built:
        raise ValueError(f"{name} has no weights yet; begin it with keras.Input, or call it once on its features.")
    if not model.compiled or internals.compiled_loss(model) is None:
        raise ValueError(f"{name} has no loss; call model.compile(loss=…) first.")
    if type(model).compute_loss is not keras.Model.compute_loss:
        raise ValueError(f"{name} has a compute_loss of its own; only a loss given to model.compile can be measured.")
    if not model.trainable_variables:
        raise ValueError(f"{name} has nothing to train; set layer.trainable = True where it was frozen.")
