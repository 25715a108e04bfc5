"""`fit` equals `keras.Model.fit` over losses, metrics and weights; see `twins`."""

import keras
import numpy as np
import pytest
from keras import layers, optimizers
from twins import (
    WEIGHTS,
    X,
    Y,
    assert_twins,
    documented,
    largest_step,
    plainly,
    shared,
    stack,
    train,
    twins,
    values,
)


def share_above_half(y_true, y_pred):
    return keras.ops.mean(keras.ops.cast(y_pred > 0.5, "float32"), axis=-1)


def test_metrics():
    metrics = ["accuracy", share_above_half, "mse"]

    def make():
        own = [keras.metrics.AUC(name="auc"), keras.metrics.Precision(name="precision")]
        weighted = [keras.metrics.BinaryAccuracy(name="weighted", threshold=0.4)]
        return documented(optimizers.Adam(0.01), metrics=[*metrics, *own], weighted_metrics=weighted)

    _, history = assert_twins(make, sample_weight=WEIGHTS)
    names = ("loss", "accuracy", "share_above_half", "mse", "auc", "precision", "weighted")
    assert set(history.history) == {part + name for part in ("", "val_") for name in names}
    assert all(np.ptp(history.history[name]) > 0 for name in ("auc", "weighted"))


def test_no_metrics():
    _, history = assert_twins(lambda: stack(layers.Dense(8, "tanh"), metrics=None))
    assert list(history.history) == ["loss", "val_loss"]


WITH_WEIGHTS = {
    "sample weights": {"sample_weight": WEIGHTS},
    "whole sample weights": {"sample_weight": WEIGHTS.astype(int)},
    "sample weights with a batch of zeros": {"sample_weight": np.where(np.arange(400) // 32 == 2, 0, WEIGHTS)},
    "class weights": {"class_weight": {0: 0.5, 1: 3.0}},
    "class weights for one class": {"class_weight": {1: 3.0}},
    "validation data": {"validation_data": (X[100:250], Y[100:250])},
    "validation data with weights": {"validation_data": (X[:150], Y[:150], WEIGHTS[:150]), "sample_weight": WEIGHTS},
    "validation data before validation split": {"validation_data": (X[:99], Y[:99]), "validation_split": 0.5},
    "validation data and class weights": {"validation_data": (X[:99], Y[:99]), "class_weight": {0: 0.5, 1: 3.0}},
}


@shared
def with_weighted_metric():
    return documented(weighted_metrics=["mae"])


QUICK = ("sample weights", "class weights", "validation data with weights")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case in QUICK else pytest.mark.thorough) for case in WITH_WEIGHTS]
)
def test_weights_and_validation(case):
    assert_twins(with_weighted_metric, **WITH_WEIGHTS[case])


@pytest.mark.thorough
def test_sample_weights_in_a_column():
    assert_twins(lambda: documented("adam"), sample_weight=WEIGHTS[:, None])


def test_sample_weights_matter():
    plain, ours = twins(documented)
    plainly(plain)
    train(ours, sample_weight=WEIGHTS)
    assert largest_step(values(plain.variables), values(ours.variables)) > 1e-3
