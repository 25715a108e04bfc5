"""What a program is made for: a built model, described once a call, and cloned where the clone proves to be equal."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import keras

from batchlab.training import keras_internals as internals
from batchlab.training.structure import Structure, structure

_KNOWN = 256

_clonable: OrderedDict[str, bool] = OrderedDict()  # by a structure's text, the one used last at the end
# One at a time: Keras counts names for the whole process while a model is built, and TensorFlow the functions that it
# traces; both counts are part of the name under which XLA's own cache on disk knows a program.
making = threading.RLock()


@dataclass(frozen=True)
class Subject:
    """A built model, and what decides its training step.

    Attributes:
        model: The model.
        batch: A batch (x, y, weight) of the kind that it is trained on.
        structure: Of the model; see there.
    """

    model: keras.Model
    batch: tuple
    structure: Structure

    @classmethod
    def of(cls, model: keras.Model, batch: tuple) -> Subject:
        """Describe a model that has been built on this batch."""
        return cls(model, batch, structure(model, *batch))

    @cached_property
    def shared(self) -> bool:
        """Whether a program may work on a clone, and so serve all models of this structure.

        It may if a clone from the configuration has the same structure: no code of the user's own, nothing that the
        configuration forgets.
        """
        if self.structure.foreign:
            return False
        text = self.structure.text
        with making:
            if text not in _clonable:
                _clonable[text] = self._try_to_clone() is not None
                while len(_clonable) > _KNOWN:
                    _clonable.popitem(last=False)
            _clonable.move_to_end(text)
            return _clonable[text]

    @property
    def key(self) -> tuple:
        """Equal for two subjects only if one program serves both."""
        if self.shared:
            return (self.structure.text,)
        return (self.structure.text, id(self.model), *map(id, self.variables))

    @cached_property
    def variables(self) -> list[keras.Variable]:
        """All state of a training run: weights, what layers and metrics keep, the optimizer's."""
        known = {id(variable): variable for variable in self.structure.variables}
        model = self.model  # what the user's own code holds is found through Keras
        for more in (model.variables, model.metrics_variables, model.optimizer.variables):
            known.update((id(variable), variable) for variable in more)
        return list(known.values())

    @cached_property
    def kept(self) -> list[keras.Variable]:
        """All state but the parameters and the optimizer's."""
        model = self.model
        others = {*map(id, model.trainable_variables), *map(id, model.optimizer.variables)}
        return [variable for variable in self.variables if id(variable) not in others]

    def clone(self) -> Subject:
        """Return a clone for a program to keep; the subject itself if it is not shared.

        A program that keeps the subject keeps alive what the `id`s in its key belong to.
        """
        if not self.shared:
            return self
        copy = self._try_to_clone()
        if copy is None:  # something that is not in the structure decides: to be told, not to be guessed
            raise internals.MissingInternalError("the model could be copied once, and not again")
        return copy

    def _try_to_clone(self) -> Subject | None:
        model = self.model
        with making, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                copy = type(model).from_config(model.get_config())
                # Losses keep no state, so the clone takes the very objects, whose options no configuration can lose.
                options = keras.saving.deserialize_keras_object(model.get_compile_config())
                copy.compile(**options | {"loss": model.loss})
                internals.build(copy, self.batch)
            except Exception:
                return None
        subject = Subject.of(copy, self.batch)
        return subject if subject.structure.text == self.structure.text else None
