"""Which program serves a model, and if not, why not. Never trains and never changes a model.

Three programs compete (see `batchlab.training.programs`). Each question below is answered by a reason against, in
words that a user can read, or by None. In doubt a model belongs to the program that is slower and cannot be wrong.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from batchlab.training import keras_internals as internals
from batchlab.training.programs.cache import is_shared
from batchlab.training.rows import Tree, are_arrays

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

_BATCH_HOOKS = [f"on_{part}batch_{end}" for part in ("", "train_", "test_") for end in ("begin", "end")]


# --- compiled at all: EpochProgram -------------------------------------------------------------------


def why_not_compiled(model: keras.Model, *data: Tree, callbacks: list[keras.callbacks.Callback]) -> str | None:
    """Say why a run cannot be compiled, as far as that is known before trying.

    Args:
        model: A compiled Keras model.
        *data: Everything that training is given: features first.
        callbacks: Of the run.
    """
    if not are_arrays(*data):
        return f"the data are not arrays of numbers ({type(data[0]).__name__})"
    for callback in callbacks:
        if _wants_batches(callback):
            return f"{type(callback).__name__} wants to be called at every batch"
    for method in ("train_step", "test_step", "fit", "make_train_function"):
        if getattr(type(model), method) is not getattr(keras.Model, method):
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
    return any(
        hook in vars(callback) or getattr(type(callback), hook) is not getattr(keras.callbacks.Callback, hook)
        for hook in _BATCH_HOOKS
    )


# --- all parameters in one vector: FlatProgram -------------------------------------------------------


def why_not_flat(model: keras.Model) -> str | None:
    """Say why a built model's parameters cannot be trained as one vector, its epochs measured from predictions."""
    if not is_shared(model):
        return "it has code or state of its own"
    if type(model) is not keras.Sequential and type(model).__name__ != "Functional":
        return "it is neither Sequential nor functional"
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        return "it has several inputs or outputs"
    if len(model.variables) != len(model.trainable_variables):
        return "it keeps state that is not trained, as BatchNormalization, Dropout and frozen layers do"
    if not model.variables:
        return "it has nothing to train"
    if not all(v.dtype == "float32" and len(v.shape) and v.constraint is None for v in model.variables):
        return "a weight is not a float32 array, or is constrained"
    layers = internals.layers_of(model)[1:]
    if not all(layer.dtype_policy.name == "float32" for layer in layers):
        return "a layer does not compute in float32"
    if any(isinstance(layer, keras.layers.Masking | keras.layers.Embedding) for layer in layers):
        return "a layer masks or embeds"
    # Its penalty is a sum over the batch, so an evaluation in one batch would not give Keras's figure.
    if any(getattr(layer, "activity_regularizer", None) for layer in layers):
        return "a layer's activity is regularised"
    if not isinstance(model.loss, str | keras.losses.Loss):
        return "its loss is a function or a collection"
    if not _is_elementwise(model.optimizer):
        return "its optimizer does not treat every parameter by itself"
    if not _has_default_reduction(model):
        return "its loss is not a mean over rows"
    if not _has_additive_metrics(model):
        return "a metric is not a mean over rows by a function of Keras's"
    return None


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


def _has_default_reduction(model: keras.Model) -> bool:
    """Whether the loss of a batch is the mean over its rows, so that an epoch's loss is a mean over rows too."""
    if isinstance(model.loss, keras.losses.Loss):
        return model.loss.reduction in ("sum_over_batch_size", "mean")
    return isinstance(model.loss, str)


def _has_additive_metrics(model: keras.Model) -> bool:
    """Whether every metric is a mean over rows by a function of Keras's, so that an epoch can be measured at once."""
    return all(
        isinstance(metric, keras.metrics.MeanMetricWrapper)
        and internals.metric_function(metric)[0].__module__.startswith("keras.")
        for metric, _ in internals.compiled_metrics(model)
    )


# --- many runs side by side: SeedsProgram ------------------------------------------------------------


def why_not_side_by_side(model: keras.Model) -> str | None:
    """Say why many runs of a built model cannot be trained side by side, the run in one axis of every array."""
    if reason := why_not_flat(model):
        return reason
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    if (
        type(model) is not keras.Sequential
        or len(model.inputs[0].shape) != 2
        or not all(type(layer) in (keras.layers.Dense, keras.layers.Activation) for layer in layers)
    ):
        return "it is no chain of Dense layers"
    if not all((layer.activation.__module__ or "").startswith("keras.") for layer in layers):
        return "an activation is not one of Keras's functions"
    if any(getattr(layer, "lora_enabled", False) for layer in layers):
        return "a layer uses LoRA"
    own = (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2)
    for layer in layers:
        for name in ("kernel_regularizer", "bias_regularizer"):
            if (regularizer := getattr(layer, name, None)) is not None and type(regularizer) not in own:
                return "a regularizer is neither L1 nor L2"
    if model.get_compile_config().get("loss_weights") is not None:
        return "its loss is weighted"
    return None
