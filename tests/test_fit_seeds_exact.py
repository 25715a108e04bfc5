"""What `fit_seeds` serves rightly, hands on, or refuses by name: builders that are easily served wrongly."""

import keras
import numpy as np
import pytest
from keras import layers, optimizers
from many_runs import X, Y, runs, stack

from batchlab import training


class Halving(optimizers.schedules.LearningRateSchedule):
    """A schedule of the user's own, without a configuration."""

    def __call__(self, step):
        return 0.1 / (1 + keras.ops.cast(step, "float32"))


def with_own_schedule():
    return stack(layers.Dense(3, "tanh"), optimizer=optimizers.SGD(Halving()))


def with_a_function_as_rate():
    return stack(layers.Dense(3, "tanh"), optimizer=optimizers.SGD(lambda: 0.05))


def with_scaled_loss():
    return stack(
        layers.Dense(3, "tanh"), optimizer=optimizers.LossScaleOptimizer(optimizers.SGD(0.1), initial_scale=4.0)
    )


def branched():
    inputs = keras.Input((2,))
    hidden = layers.Dense(3, "tanh")(inputs)
    model = keras.Model(inputs, [layers.Dense(1, "sigmoid")(hidden), layers.Dense(1)(hidden)])
    model.compile(optimizers.SGD(0.05), ["binary_crossentropy", "mse"], metrics=[["accuracy"], ["mae"]])
    return model


@pytest.mark.thorough
@pytest.mark.parametrize("build", [with_own_schedule, with_a_function_as_rate, with_scaled_loss])
def test_optimizers_that_are_served_one_after_the_other(build):
    with pytest.warns(UserWarning, match="one after the other"):
        frame = runs(build, seeds=2)
    model = build()
    training.draw_weights(model, 1)
    expected = training.fit(model, X, Y, batch_size=32, epochs=3, validation_split=0.2, seed=1).history
    for name, values in expected.items():
        np.testing.assert_allclose(frame[frame["seed"] == 1][name], values, atol=1e-5, err_msg=name)


def test_learning_rates_reach_the_optimizer_within():
    with pytest.warns(UserWarning, match="one after the other"):
        frame = runs(with_scaled_loss, seeds=1, learning_rates=[0.001, 0.3])
    slow, fast = (frame[frame["learning_rate"] == rate]["loss"].to_numpy() for rate in (0.001, 0.3))
    assert slow[-1] > fast[-1] + 0.01


@pytest.mark.thorough
def test_outputs_that_keras_numbers_differently_in_every_run():
    frame = training.fit_seeds(branched, X, [Y, Y], seeds=3, batch_size=40, epochs=2)
    assert len(frame) == 6
    assert frame.notna().all().all()
    model = branched()
    training.draw_weights(model, 2)
    expected = training.fit(model, X, [Y, Y], batch_size=40, epochs=2, seed=2).history
    columns = [name for name in frame.columns if "loss" in name or "accuracy" in name or "mae" in name]
    assert len(columns) == len(expected) == 5
    for name, values in zip(sorted(columns), sorted(expected), strict=True):
        np.testing.assert_allclose(frame[frame["seed"] == 2][name], expected[values], atol=1e-5)


# --- refused -----------------------------------------------------------------------------------------


def test_a_build_that_returns_its_model_again():
    model = stack(layers.Dense(3, kernel_constraint=keras.constraints.NonNeg()))
    with pytest.raises(ValueError, match="`build_model` returns a model, or a layer, that it has returned before"):
        runs(lambda: model, seeds=3, epochs=1)


def test_a_build_that_puts_one_layer_into_every_model():
    shared = layers.Dense(3, "tanh", kernel_constraint=keras.constraints.NonNeg())
    with pytest.raises(ValueError, match="or a layer, that it has returned before"):
        runs(lambda: stack(shared), seeds=2)


@pytest.mark.parametrize("returned", [None, "a model", layers.Dense(1)])
def test_a_build_that_returns_no_model(returned):
    with pytest.raises(TypeError, match=f"`build_model` returned a {type(returned).__name__}"):
        runs(lambda: returned)


def test_a_model_that_has_been_trained_before_is_served_side_by_side(recwarn):
    model = stack(layers.Dense(3, "tanh"), optimizer="adam")
    training.fit(model, X, Y, batch_size=32, epochs=2)
    training.fit_seeds(lambda: model, X, Y, seeds=2, batch_size=32, epochs=1)
    assert not [w for w in recwarn if issubclass(w.category, UserWarning)]
