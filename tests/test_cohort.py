"""Members of a cohort do what they would do alone."""

import keras
import numpy as np
import pytest

from batchlab.models import build_model
from batchlab.study.cohort import MemberCurves, build_cohort, measure, member_weights, stack, stopping_epochs
from batchlab.training import fit

SEEDS = [3, 0, 3]
OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.3),
    "RMSprop": lambda: keras.optimizers.RMSprop(0.01),
    "Adam": lambda: keras.optimizers.Adam(0.01),
    "AdamW": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.5),
}


def rows(seed, count=40):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 2)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] + rng.normal(size=count) > 0).astype(np.float32)


PARTS = [rows(seed) for seed in range(3)]  # members 0 and 2 begin alike and have different rows


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_member_is_trained_as_it_would_be_alone(name):
    cohort = build_cohort(SEEDS, (6,), optimizer=OPTIMIZERS[name]())
    fit(cohort, *stack(PARTS), batch_size=16, epochs=5, seed=7)
    for member, (seed, part) in enumerate(zip(SEEDS, PARTS, strict=True)):
        alone = build_model((6,), optimizer=OPTIMIZERS[name](), seed=seed)
        begun = alone.get_weights()
        fit(alone, *part, batch_size=16, epochs=5, seed=7)
        for ours, theirs, start in zip(member_weights(cohort, member), alone.get_weights(), begun, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-5)
            assert abs(theirs - start).max() > 1e-2


def test_measured_as_keras_evaluates():
    cohort = build_cohort(SEEDS, (6,))
    found = measure(cohort, *stack(PARTS)).set_index("member")
    for member, (seed, part) in enumerate(zip(SEEDS, PARTS, strict=True)):
        expected = build_model((6,), seed=seed).evaluate(*part, verbose=0)
        np.testing.assert_allclose(found.loc[member, ["loss", "accuracy"]], expected, atol=1e-6)


def test_curves_are_measured_after_the_epochs_asked_for():
    cohort, (x, y) = build_cohort(SEEDS, (6,)), stack(PARTS)
    curves = MemberCurves({"first": (x, y), "half": (x[:20], y[:20])}, epochs=(2, 3))
    fit(cohort, x, y, batch_size=16, epochs=3, seed=0, callbacks=[curves])
    assert curves.frame.groupby(["part", "epoch"]).size().to_dict() == {
        (part, epoch): 3 for part in ("first", "half") for epoch in (2, 3)
    }
    last = curves.frame.query("part == 'half' and epoch == 3")["loss"]
    np.testing.assert_allclose(last, measure(cohort, x[:20], y[:20])["loss"], atol=1e-6)


def test_without_epochs_all_are_measured():
    cohort, (x, y) = build_cohort(SEEDS, (6,)), stack(PARTS)
    curves = MemberCurves({"all": (x, y)})
    fit(cohort, x, y, batch_size=16, epochs=2, seed=0, callbacks=[curves])
    assert sorted(set(curves.frame["epoch"])) == [1, 2]


def test_dropout_acts_while_training_alone():
    plain, dropped = (build_cohort(SEEDS, (6, 6), dropout=share) for share in (0.0, 0.5))
    x, _ = stack(PARTS)
    np.testing.assert_array_equal(plain(x, training=False), dropped(x, training=False))
    assert np.abs(np.asarray(dropped(x, training=True)) - np.asarray(dropped(x, training=True))).max() > 0.01
    assert sum(isinstance(layer, keras.layers.Dropout) for layer in dropped.layers) == 2


@pytest.mark.parametrize("patience", [1, 3, 50])
def test_early_stopping_keeps_the_epoch_that_keras_keeps(patience):
    losses = np.random.default_rng(0).normal(size=(30, 20)) + np.linspace(0, -1, 30)[:, None]
    expected = []
    for run in losses.T:
        callback = keras.callbacks.EarlyStopping(monitor="val_loss", patience=patience)
        callback.set_model(build_model((2,)))
        callback.on_train_begin()
        for epoch, loss in enumerate(run):
            callback.on_epoch_end(epoch, {"val_loss": loss})
            if callback.model.stop_training:
                break
        expected.append(callback.best_epoch + 1)
    assert stopping_epochs(losses, patience).tolist() == expected
    assert len(set(expected)) > 2


def test_equal_losses_are_no_improvement():
    assert stopping_epochs(np.ones((9, 2)), 2).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: stack([]), ValueError, "there is none"),
        (lambda: stack([rows(0), rows(1, 30)]), ValueError, r"member 1 has \(\(30, 2\)"),
        (lambda: build_cohort([]), ValueError, "the number of seeds"),
        (lambda: build_cohort([0], optimizer="adagrad"), TypeError, "Adagrad is none of"),
        (lambda: build_cohort([0], optimizer=keras.optimizers.SGD(weight_decay=0.1)), TypeError, "SGD is none of"),
        (lambda: build_cohort([0], (0,)), ValueError, r"hidden\[0\]"),
        (lambda: stopping_epochs(np.ones((3, 1)), 0), ValueError, "patience"),
    ],
)
def test_what_cannot_serve_is_refused(call, error, said):
    with pytest.raises(error, match=said):
        call()
