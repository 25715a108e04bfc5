"""Which program serves a model, and if not, why not. Never trains and never changes a model.

Several programs compete (see `batchlab.training.programs`). Each question below is answered by a reason against, in
words that a user can read, or by None. In doubt a model belongs to the program that is slower and cannot be wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import keras
import tensorflow as tf

from batchlab.training import keras_internals as internals
from batchlab.training.rows import Tree, are_arrays
from batchlab.training.subject import Subject

#: Optimizers that treat every parameter by itself, so that it does not matter how parameters are laid out.
ELEMENTWISE = (
    keras.optimizers.SGD,
    keras.optimizers.RMSprop,
    keras.optimizers.Adam,
    keras.optimizers.AdamW,
    keras.optimizers.Adamax,
    keras.optimizers.Nadam,
    keras.optimizers.Adagrad,
    keras.optimizers.Adadelta,
    keras.optimizers.Lion,
)

#: What makes up Keras's loop over batches and epochs. What a step calls (`call`, `compute_loss`) may be a user's own.
_OF_THE_LOOP = (
    "fit",
    "evaluate",
    "train_step",
    "test_step",
    "make_train_function",
    "make_test_function",
    "_make_function",
    "_get_metrics_result_or_logs",
)
#: Losses and metrics with a value for each row that depends on this row alone, given the options of `_keeps_to_rows`.
_ROW_BY_ROW = frozenset(
    getattr(home, name)
    for home, names in (
        (
            keras.losses,
            "mean_squared_error mean_absolute_error mean_absolute_percentage_error mean_squared_logarithmic_error "
            "huber log_cosh poisson kl_divergence hinge squared_hinge categorical_hinge cosine_similarity "
            "binary_crossentropy binary_focal_crossentropy categorical_crossentropy categorical_focal_crossentropy "
            "sparse_categorical_crossentropy",
        ),
        (
            keras.metrics,
            "binary_accuracy categorical_accuracy sparse_categorical_accuracy top_k_categorical_accuracy "
            "sparse_top_k_categorical_accuracy",
        ),
    )
    for name in names.split()
)
_BATCH_HOOKS = [f"on_{part}batch_{end}" for part in ("", "train_", "test_") for end in ("begin", "end")]


# --- compiled at all: SingleProgram ------------------------------------------------------------------


def why_not_compiled(
    model: keras.Model,
    *data: Tree,
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.CallbackList | None,
    others: Collection[str] = (),
) -> str | None:
    """Say why a run cannot be compiled, as far as that is known before trying.

    Args:
        model: A compiled Keras model.
        *data: Everything that training is given: features first, then targets.
        callbacks: Of the run.
        others: Names of further arguments of `model.fit` that the run has.
    """
    for name in others:
        return f"{name} is left to it"
    if not are_arrays(*data):
        return f"the data are not arrays of numbers ({type(data[0]).__name__})"
    if data[1] is None:
        return "there are no targets"
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return "the callbacks come as a CallbackList"
    for callback in callbacks or ():
        if _wants_batches(callback):
            return f"{type(callback).__name__} wants to be called at every batch"
    for method in _OF_THE_LOOP:
        if method in vars(model) or getattr(type(model), method, None) is not getattr(keras.Model, method, None):
            return f"{type(model).__name__} has a {method} of its own"
    if model.run_eagerly:
        return "the model was compiled with run_eagerly"
    with tf.init_scope():  # out of any strategy's scope, so this is the strategy that stands for none
        if tf.distribute.has_strategy() or model.distribute_strategy is not tf.distribute.get_strategy():
            return "a distribution strategy is in use"
    return None


def _wants_batches(callback: keras.callbacks.Callback) -> bool:
    if isinstance(callback, keras.callbacks.TensorBoard):
        return callback.update_freq != "epoch" or internals.profiles_batches(callback)
    if isinstance(callback, keras.callbacks.ModelCheckpoint | keras.callbacks.BackupAndRestore):
        return callback.save_freq != "epoch"
    return not terminates_on_nan(callback) and any(overrides(callback, hook) for hook in _BATCH_HOOKS)


def terminates_on_nan(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback is called at every batch, and does nothing unless the mean loss of the epoch is not finite."""
    return type(callback) is keras.callbacks.TerminateOnNaN


def overrides(callback: keras.callbacks.Callback, hook: str) -> bool:
    """Whether a callback does something when Keras calls this method of it."""
    return hook in vars(callback) or getattr(type(callback), hook) is not getattr(keras.callbacks.Callback, hook)


# --- all parameters in one vector: PackedStep --------------------------------------------------------


_KNOWN = 256
_not_packed: dict[str, str | None] = {}


def why_not_packed(subject: Subject) -> str | None:
    """Say why a built model's parameters cannot be trained as one vector."""
    if not subject.shared:
        return "it has code or state of its own"
    text = subject.structure.text  # which tells all that is asked below
    if text not in _not_packed:
        if len(_not_packed) >= _KNOWN:
            _not_packed.clear()
        _not_packed[text] = _why_not_packed(subject.model)
    return _not_packed[text]


def _why_not_packed(model: keras.Model) -> str | None:
    if not model.trainable_variables:
        return "it has nothing to train"
    if not all(v.dtype == "float32" and len(v.shape) and v.constraint is None for v in model.trainable_variables):
        return "a weight is not a float32 array, or is constrained"
    layers = internals.layers_of(model)[1:]
    if not all(layer.dtype_policy.name == "float32" for layer in layers):
        return "a layer does not compute in float32"
    if any(isinstance(layer, keras.layers.Embedding) for layer in layers):
        return "a layer embeds, so that only the rows that a batch looks up are updated"
    if not _is_elementwise(model.optimizer):
        return "its optimizer does not treat every parameter by itself"
    return None


def keeps_state(model: keras.Model) -> bool:
    """Whether a built model keeps state that is not trained, as BatchNormalization, Dropout and frozen layers do."""
    return len(model.variables) != len(model.trainable_variables)


def _is_elementwise(optimizer: object) -> bool:
    """Whether the optimizer's step for one parameter depends on that parameter and its gradient alone."""
    return (
        type(optimizer) in ELEMENTWISE
        and optimizer.clipnorm is None
        and optimizer.global_clipnorm is None
        and not optimizer.use_ema
        and not optimizer.gradient_accumulation_steps
        and not optimizer.loss_scale_factor
    )


def is_measured_at_once(subject: Subject) -> bool:
    """Whether an evaluation of all rows in one batch gives what Keras gives, batch by batch.

    It does if each row has a loss and metrics of its own, whose means are taken over all rows alike.
    """
    model = subject.model
    layers = internals.layers_of(model)[1:]
    if not subject.shared or not is_table(model):
        return False  # what its code does is not known, or what a layer makes of all rows may not fit into memory
    if any(isinstance(layer, keras.layers.Masking | keras.layers.Embedding) for layer in layers):
        return False  # masked rows do not count
    if any(getattr(layer, "activity_regularizer", None) for layer in layers):
        return False  # a sum over the batch
    loss = internals.only_loss(model)
    if loss is None or loss.reduction not in ("sum_over_batch_size", "mean"):
        return False
    metrics = [metric for metric, _ in internals.compiled_metrics(model)]
    if not all(isinstance(metric, keras.metrics.MeanMetricWrapper) for metric in metrics):
        return False
    names = ["loss", *(metric.name for metric in metrics)]
    if len(set(names)) < len(names):
        return False  # Keras renames or replaces one of them
    functions = [internals.loss_function(loss), *map(internals.metric_function, metrics)]
    return all(function in _ROW_BY_ROW and _keeps_to_rows(options) for function, options in functions)


def is_table(model: keras.Model) -> bool:
    """Whether each row of the features of a built model is one vector, or several vectors."""
    return all(len(tensor.shape) == 2 for tensor in keras.tree.flatten(getattr(model, "inputs", [])))


def _keeps_to_rows(options: dict) -> bool:
    return options.get("axis", -1) == -1 and options.get("ignore_class") is None


# --- many runs side by side: VectorisedProgram -------------------------------------------------------


def why_not_side_by_side(subject: Subject) -> str | None:
    """Say why many runs of a built model cannot be trained side by side, as far as that is known before trying."""
    return why_not_packed(subject)


# --- a vector instruction serves several runs: SeedsProgram ------------------------------------------


def why_not_by_lanes(subject: Subject) -> str | None:
    """Say why the runs of a built model cannot lie in the last axis of every array."""
    if reason := why_not_packed(subject):
        return reason
    model = subject.model
    if keeps_state(model):
        return "it keeps state that is not trained, as BatchNormalization, Dropout and frozen layers do"
    if not internals.compiled_loss(model):
        return "its layers alone make up its loss"
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    if (
        type(model) is not keras.Sequential
        or not is_table(model)
        or not all(type(layer) in (keras.layers.Dense, keras.layers.Activation) for layer in layers)
    ):
        return "it is no chain of Dense layers"
    if not all((layer.activation.__module__ or "").startswith("keras.") for layer in layers):
        return "an activation is not one of Keras's functions"
    if any(getattr(layer, "lora_enabled", False) for layer in layers):
        return "a layer uses LoRA"
    own = (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2)
    if not all(v.regularizer is None or type(v.regularizer) in own for v in model.trainable_variables):
        return "a regularizer is neither L1 nor L2"
    if not is_measured_at_once(subject):
        return "its loss or a metric is not known to be a mean over rows, each by itself"
    return None
