"""`fit` equals `keras.Model.fit` for the documented model, over batch sizes and optimizers; see `twins`."""

import pytest
from keras import optimizers
from twins import (
    TRAIN_ROWS,
    assert_same_figures,
    assert_same_state,
    assert_twins,
    documented,
    plainly,
    shared,
    train,
    twins,
)

# --- the documented model: batch sizes and optimizers ------------------------------------------------

MAIN_OPTIMIZERS = {
    "rmsprop": lambda: optimizers.RMSprop(),
    "sgd": lambda: optimizers.SGD(0.01),
    "momentum": lambda: optimizers.SGD(0.01, momentum=0.9),
    "nesterov": lambda: optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "adam": lambda: optimizers.Adam(),
    "adamw": lambda: optimizers.AdamW(weight_decay=0.02),
    "schedule": lambda: optimizers.SGD(optimizers.schedules.ExponentialDecay(0.05, 20, 0.9)),
    "clipnorm": lambda: optimizers.RMSprop(clipnorm=0.02),
}
MAIN_MODELS = {name: shared(lambda make=make: documented(make())) for name, make in MAIN_OPTIMIZERS.items()}
BATCH_SIZES = {
    1: ("rmsprop", "sgd"),  # a plain epoch takes 0.3 s, so not all of them
    3: ("sgd",),
    7: ("rmsprop", "adamw"),
    32: tuple(MAIN_OPTIMIZERS),
    250: ("rmsprop", "nesterov"),
    TRAIN_ROWS: ("rmsprop", "adam"),
}
QUICK = {(3, "sgd"), *((32, name) for name in ("rmsprop", "adam"))}
CASES = [
    pytest.param(size, name, marks=[] if (size, name) in QUICK else pytest.mark.thorough)
    for size, names in BATCH_SIZES.items()
    for name in names
]


@pytest.mark.parametrize(("batch_size", "optimizer"), CASES)
def test_ten_epochs_equal_model_fit(batch_size, optimizer):
    plain, ours = twins(MAIN_MODELS[optimizer])
    arguments = {"batch_size": batch_size, "epochs": 10, "validation_split": 0.2}
    expected = plainly(plain, **arguments)
    assert_same_figures(train(ours, **arguments), expected)
    assert_same_state(ours, plain)
    assert ours.optimizer.iterations.numpy() == 10 * -(-TRAIN_ROWS // batch_size)


@pytest.mark.parametrize("batch_size", [7, *(pytest.param(size, marks=pytest.mark.thorough) for size in (400, 1000))])
def test_without_a_validation_part(batch_size):
    assert_twins(documented, batch_size=batch_size, validation_split=0.0)
