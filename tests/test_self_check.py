"""A program that is not Keras's step is found out before it trains anything: broken on purpose, each is handed over."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, losses, optimizers
from twins import WEIGHTS, X, Y, assert_same_figures, assert_same_state, fresh, plainly, spy_on_model_fit, stack, values

from batchlab import training
from batchlab.training import self_check, structure
from batchlab.training.programs import cache, seeds
from batchlab.training.programs.pure import PureStep
from batchlab.training.programs.seeds import SeedsProgram
from batchlab.training.programs.single import SingleProgram
from batchlab.training.programs.steps import PackedStep
from batchlab.training.subject import Subject


@pytest.fixture(autouse=True)
def no_programs(monkeypatch):
    """Lend nothing that was made before, and keep nothing that is broken."""
    monkeypatch.setattr(cache, "_idle", type(cache._idle)())


def plain():
    return stack(layers.Dense(4, "tanh", kernel_regularizer="l2"), optimizer=optimizers.SGD(0.1))


def huber(delta=0.1):
    return stack(layers.Dense(4, "tanh"), head="linear", loss=losses.Huber(delta), optimizer=optimizers.SGD(0.1))


def normalised():
    frozen = layers.Dense(4, "tanh", trainable=False)
    return stack(layers.BatchNormalization(), frozen, optimizer=optimizers.SGD(0.1))


def masked():
    model = keras.Sequential([keras.Input((3, 2)), layers.Masking(), layers.GlobalAveragePooling1D(), layers.Dense(1)])
    model.compile(optimizers.SGD(0.1), "mse")
    return model


def by_small_steps():
    return stack(layers.Dense(4, "tanh"), optimizer=optimizers.Adam(1e-4))


def saturated():
    model = stack(optimizer=optimizers.SGD(0.1))
    model.layers[0].set_weights([np.full((2, 1), 300, np.float32), np.zeros(1, np.float32)])
    return model


def random():
    return stack(layers.Dense(8, "tanh"), layers.Dropout(0.5), optimizer=optimizers.SGD(0.1))


# --- what is broken ----------------------------------------------------------------------------------


def in_the_clone(change):
    """Change the model that a program works on."""

    def damage(monkeypatch):
        own = Subject.clone

        def clone(self):
            copy = own(self)
            change(copy.model)
            return copy

        monkeypatch.setattr(Subject, "clone", clone)

    return damage


def in_the_class(owner, name, make):
    """Put something else in the place of a method, made from the method."""
    return lambda monkeypatch: monkeypatch.setattr(owner, name, make(getattr(owner, name)))


def other_option(model):
    model.layers[0].activation = keras.activations.sigmoid


def other_reduction(model):
    model._compile_loss._flat_losses[0].loss.reduction = "sum"


def lost_regularizer(model):
    model.layers[0].kernel.regularizer = None


def frozen_weight_moves(own):
    def keep(self, state):
        own(self, state)
        for variable in self._pure.kept:
            if variable.name == "kernel":
                variable.assign_add(keras.ops.full_like(variable, 0.001))

    return keep


def lost_mask(model):
    model.layers[1].call = lambda inputs, mask=None: keras.ops.mean(inputs, axis=1)


def other_rate_of_dropout(model):
    model.layers[1].rate = 0.1


def evaluated_as_in_training(own):
    return lambda self, batch, weights, state, *, training: own(self, batch, weights, state, training=True)


def lost_logits(own):
    def measure(self, *arguments, **named):
        loss = self._model.compute_loss
        self._model.compute_loss = lambda x, y, y_pred, **others: loss(x, y, tf.identity(y_pred), **others)
        try:
            return own(self, *arguments, **named)
        finally:
            del self._model.compute_loss

    return measure


def lost_weights(own):
    return lambda self, batch, *arguments, **named: own(self, (*batch[:2], None), *arguments, **named)


def other_learning_rate(own):
    def load(self, handles):
        own(self, handles)
        rate = self._step._optimizer.learning_rate
        rate.assign(rate * 1.01)

    return load


def half_the_gradient_of_one_weight(own):
    def gradients(self, batch):
        first, *others = own(self, batch)
        return [tf.concat([first[:, :1] / 2, first[:, 1:]], 1), *others]

    return gradients


BROKEN = {
    "another option": (plain, in_the_clone(other_option), {}),
    "another reduction": (plain, in_the_clone(other_reduction), {}),
    "a lost regularizer": (plain, in_the_clone(lost_regularizer), {}),
    "a frozen weight that moves": (normalised, in_the_class(PackedStep, "_keep", frozen_weight_moves), {}),
    "a lost mask": (masked, in_the_clone(lost_mask), {"x": np.stack([X, X * 0, X * 0], 1), "y": Y[:, None]}),
    "another rate of Dropout": (random, in_the_clone(other_rate_of_dropout), {}),
    "an evaluation as in training": (normalised, in_the_class(PureStep, "measure", evaluated_as_in_training), {}),
    "lost logits": (saturated, in_the_class(PureStep, "measure", lost_logits), {}),
    "lost weights of rows": (plain, in_the_class(PureStep, "measure", lost_weights), {"sample_weight": WEIGHTS}),
    "another learning rate": (plain, in_the_class(SingleProgram, "_load", other_learning_rate), {}),
    "another learning rate, of small steps": (
        by_small_steps,
        in_the_class(SingleProgram, "_load", other_learning_rate),
        {},
    ),
    "half the gradient of one weight": (
        plain,
        in_the_class(PackedStep, "_gradients", half_the_gradient_of_one_weight),
        {},
    ),
}


def assert_handed_over(make, x=X, y=Y, **arguments):
    model, ours = fresh(make), fresh(make)
    expected = plainly(model, x, y, validation_split=0.2, **arguments)
    with spy_on_model_fit() as seen:
        history = training.fit(ours, x, y, batch_size=32, epochs=3, shuffle=False, validation_split=0.2, **arguments)
    assert seen.calls == 1
    (text,) = seen.warnings
    assert "its compiled step differs from Keras's" in text
    assert_same_figures(history, expected)
    assert_same_state(ours, model)
    return text


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(what, marks=[] if what in ("another option", "lost logits") else pytest.mark.thorough)
        for what in BROKEN
    ],
)
def test_a_broken_program_is_handed_over(what, monkeypatch):
    make, damage, arguments = BROKEN[what]
    with spy_on_model_fit() as seen:
        training.fit(fresh(make), **{"x": X, "y": Y, "batch_size": 32, "epochs": 1, **arguments})
    assert seen.calls == 0, "it is served when nothing is broken"
    cache._idle.clear()
    damage(monkeypatch)
    assert_handed_over(make, **arguments)


def test_a_key_that_lacks_an_option(monkeypatch):
    monkeypatch.setattr(structure, "_NO_MATTER", structure._NO_MATTER | {"_fn_kwargs"})
    training.fit(huber(0.1), X, Y, batch_size=32, epochs=1, validation_split=0.2)
    text = assert_handed_over(lambda: huber(0.4))
    assert "the loss is" in text or "the gradient of" in text


# --- many runs side by side --------------------------------------------------------------------------


def mixed_runs(own):
    def dense(x, kernel):
        out = own(x, kernel)
        return out + 0.01 * tf.roll(out, 1, axis=-1)

    return dense


def no_penalty(own):
    return lambda self: tf.zeros(self._runs)


def other_rates(own):
    return lambda self, gradients, rates: own(self, gradients, rates * 1.01)


@pytest.mark.parametrize(
    "damage",
    [
        in_the_class(seeds, "_dense", mixed_runs),
        *(
            pytest.param(damage, marks=pytest.mark.thorough)
            for damage in (
                in_the_class(SeedsProgram, "_penalty", no_penalty),
                in_the_class(SeedsProgram, "_apply", other_rates),
                in_the_clone(other_option),
            )
        ),
    ],
    ids=["runs that mix", "a lost penalty", "another learning rate", "another option"],
)
def test_a_broken_program_of_many_runs_is_not_used(damage, monkeypatch):
    def runs():
        return training.fit_seeds(plain, X, Y, seeds=2, batch_size=32, epochs=2, validation_split=0.2)

    expected = runs()
    cache._idle.clear()
    damage(monkeypatch)
    with pytest.warns(UserWarning, match="one after the other.*differs from Keras's") as caught:
        found = runs()
    if len(caught) == 1:  # the clone is broken for every program
        np.testing.assert_allclose(found["val_loss"], expected["val_loss"], atol=1e-5)


# --- its terms ---------------------------------------------------------------------------------------


def test_a_model_is_left_as_it_was():
    model = fresh(random)
    model.optimizer.build(model.trainable_variables)
    training.keras_internals.build(model, (X[:32], Y[:32], None))
    before = values([*model.variables, *model.optimizer.variables, *model.metrics_variables])
    subject = Subject.of(model, (X[:32], Y[:32], None))
    step = self_check.keras_step
    with self_check.restored(subject.variables):
        assert step(subject, subject.batch).figures["loss"] > 0
    for a, b in zip(
        values([*model.variables, *model.optimizer.variables, *model.metrics_variables]), before, strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert "apply_gradients" not in vars(model.optimizer)


def test_each_model_is_checked_once_for_each_kind_of_data(monkeypatch):
    steps, own = [], self_check.keras_step
    monkeypatch.setattr(self_check, "keras_step", lambda *a: steps.append(1) or own(*a))
    models = [fresh(plain), fresh(plain)]
    for model in models:
        for _ in range(2):
            training.fit(model, X, Y, batch_size=32, epochs=1)
    assert len(steps) == 2
    training.fit(models[0], X, Y, batch_size=32, epochs=1, sample_weight=WEIGHTS)
    assert len(steps) == 3
    models[0].compile(optimizers.SGD(0.2), "mse", metrics=["accuracy"])
    training.fit(models[0], X, Y, batch_size=32, epochs=1)
    assert len(steps) == 4


def test_a_step_that_keras_cannot_take_uncompiled_is_left_to_it():
    model = stack(outputs=3, head="softmax", loss="sparse_categorical_crossentropy")
    with (
        pytest.warns(UserWarning, match="fails uncompiled"),
        pytest.raises(tf.errors.InvalidArgumentError, match="label"),
    ):
        training.fit(model, X, np.full(len(X), 7), batch_size=32, epochs=1)
