"""What the tests of `fit` share: twins, two equal models, one trained by `model.fit`, the other by `training.fit`.

With `shuffle=False` nothing may differ by more than 1e-5. A spy on `model.fit` shows that the second was not handed
over.
"""

import warnings
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import helpers
from batchlab import training

ROOT = Path(__file__).resolve().parent.parent
X, Y = helpers.scale_features(helpers.load_ads(ROOT / "data" / "stand_in.csv"))
TRAIN_ROWS = 320  # of 400, with validation_split=0.2
THREE_CLASSES = np.digitize(X[:, 0] + X[:, 1], [-0.5, 0.8])  # 0, 1 or 2
WEIGHTS = np.random.default_rng(5).uniform(0.2, 3, len(Y)).astype(np.float32)
TOLERANCE = 1e-5
# A graphics card would round the factors of a product to ten bits.
tf.config.experimental.enable_tensor_float_32_execution(False)

# --- twins -------------------------------------------------------------------------------------------


def fresh(make):
    """What `make` builds, with equal weights and equal dropout seeds on every call."""
    keras.utils.set_random_seed(7)
    return make()


def shared(make):
    """Mark a build as one of many tests: its plain twin is kept, so that Keras traces it once, not in every test."""
    make.kept = []
    return make


def twins(make):
    """A plain model and ours, equal in every variable."""
    ours = fresh(make)
    if not hasattr(make, "kept"):
        return fresh(make), ours
    if not make.kept:
        plain = fresh(make)
        plain.optimizer.build(plain.trainable_variables)
        make.kept.append((plain, values([*plain.variables, *plain.optimizer.variables])))
    ((plain, begin),) = make.kept
    for variable, value in zip([*plain.variables, *plain.optimizer.variables], begin, strict=True):
        variable.assign(value)
    return plain, ours


@shared
def documented(optimizer="rmsprop", **compiled):
    model = helpers.build_model(seed=7, optimizer=optimizer)
    if compiled:
        model.compile(**{"optimizer": optimizer, "loss": "binary_crossentropy", "metrics": ["accuracy"], **compiled})
    return model


def stack(*inner, outputs=1, head="sigmoid", features=2, **compiled):
    """A sequential model with these inner layers and one Dense head."""
    model = keras.Sequential([keras.Input((features,)), *inner, layers.Dense(outputs, head)])
    model.compile(**{"optimizer": "rmsprop", "loss": "binary_crossentropy", "metrics": ["accuracy"], **compiled})
    return model


@contextmanager
def spy_on_model_fit():
    """Count the calls of `keras.Model.fit`, and collect the warnings of the meantime."""
    seen = SimpleNamespace(calls=0)
    own = keras.Model.fit

    def fit(self, *arguments, **named):
        seen.calls += 1
        return own(self, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        patch.setattr(keras.Model, "fit", fit)
        yield seen
    seen.warnings = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]


def train(model, x=X, y=Y, *, may_hand_over=False, **arguments):
    """Train with our `fit`, which must not fall back on the model's own."""
    with spy_on_model_fit() as seen:
        history = training.fit(model, x, y, **{"batch_size": 32, "epochs": 3, "shuffle": False, **arguments})
    if seen.calls:
        assert may_hand_over, f"handed to model.fit: {seen.warnings}"
        assert len(seen.warnings) == 1, seen.warnings
    return history


def plainly(model, x=X, y=Y, **arguments):
    """Train with the model's own `fit`."""
    return model.fit(x, y, **{"batch_size": 32, "epochs": 3, "shuffle": False, "verbose": 0, **arguments})


def values(variables):
    return [np.asarray(keras.ops.convert_to_numpy(v)) for v in variables]


def largest_step(before, after):
    return max(np.abs(a - b).max() for a, b in zip(before, after, strict=True))


def assert_same_figures(ours, plain, tolerance=TOLERANCE):
    assert (ours.epoch, ours.params) == (plain.epoch, plain.params)
    assert list(ours.history) == list(plain.history)
    for name, expected in plain.history.items():
        np.testing.assert_allclose(ours.history[name], expected, rtol=0, atol=tolerance, err_msg=name)


def assert_same_state(ours, plain, tolerance=TOLERANCE):
    """Weights, non-trainable state and every optimizer variable."""
    for what in ("variables", "optimizer.variables"):
        ours_now, plain_now = ours, plain
        for part in what.split("."):
            ours_now, plain_now = getattr(ours_now, part), getattr(plain_now, part)
        for variable, a, b in zip(ours_now, values(ours_now), values(plain_now), strict=True):
            np.testing.assert_allclose(
                a.astype(float), b.astype(float), rtol=0, atol=tolerance, err_msg=f"{what}: {variable.path}"
            )


def assert_twins(make, x=X, y=Y, *, may_hand_over=False, tolerance=TOLERANCE, **arguments):
    """Train twins, compare them, and return the plain one and its history."""
    if "validation_data" not in arguments:
        arguments = {"validation_split": 0.2, **arguments}
    plain, ours = twins(make)
    before = values(plain.trainable_variables)
    expected = plainly(plain, x, y, **arguments)
    got = train(ours, x, y, may_hand_over=may_hand_over, **arguments)
    if before:  # an unbuilt model has no weights yet
        assert largest_step(before, values(plain.trainable_variables)) > 10 * tolerance, "nothing was learned"
    assert_same_figures(got, expected, tolerance)
    assert_same_state(ours, plain, tolerance)
    return plain, expected


def cubic_loss(y_true, y_pred):
    return keras.ops.mean(keras.ops.abs(y_true - y_pred) ** 3, axis=-1)


class Recorder(keras.callbacks.Callback):
    """Every epoch-level call in order, with its logs and the weights at that moment."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def note(self, name, epoch=None, logs=None):
        self.calls.append((name, epoch, dict(logs or {}), values(self.model.variables)))

    def on_train_begin(self, logs=None):
        self.note("train begin", None, logs)

    def on_epoch_begin(self, epoch, logs=None):
        self.note("epoch begin", epoch, logs)

    def on_test_begin(self, logs=None):
        self.note("test begin", None, logs)

    def on_test_end(self, logs=None):
        self.note("test end", None, logs)

    def on_epoch_end(self, epoch, logs=None):
        self.note("epoch end", epoch, logs)

    def on_train_end(self, logs=None):
        self.note("train end", None, logs)


def with_callbacks(make_callbacks, make=documented, *, may_hand_over=False, **arguments):
    """Twins with callbacks of their own; what both runs left behind."""
    arguments = {"epochs": 6, "validation_split": 0.2, **arguments}
    plain, ours = twins(make)
    plain_callbacks, our_callbacks = make_callbacks("plain"), make_callbacks("ours")
    expected = plainly(plain, callbacks=plain_callbacks, **arguments)
    got = train(ours, callbacks=our_callbacks, may_hand_over=may_hand_over, **arguments)
    assert_same_figures(got, expected)
    assert_same_state(ours, plain)
    return SimpleNamespace(
        plain=plain_callbacks, ours=our_callbacks, history=got, model=ours, expected=expected, plain_model=plain
    )
