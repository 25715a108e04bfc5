"""Every loss, metric, optimizer and regularizer of Keras, each of its options off its default, several in one model."""

import keras
import numpy as np
import pytest
from keras import layers, losses, metrics, optimizers, regularizers
from test_structure import classes
from twins import THREE_CLASSES, WEIGHTS, X, Y, assert_twins, fresh, stack

from batchlab import training

ONE_HOT = np.eye(3, dtype=np.float32)[THREE_CLASSES]
NUMBERS = np.stack([X[:, 0] + 3, np.abs(X[:, 1]) + 0.5], 1).astype(np.float32)
EVEN = {"batch_size": 40}  # no smaller last batch, for which Keras averages the losses of outputs otherwise

#: By the kind of target: the targets, head and outputs, and losses.
LOSSES = {
    "binary": (
        Y[:, None],
        "sigmoid",
        1,
        [
            losses.BinaryCrossentropy(label_smoothing=0.1),
            losses.BinaryCrossentropy(from_logits=True, axis=-1),
            losses.BinaryFocalCrossentropy(True, alpha=0.3, gamma=1.5, label_smoothing=0.1),
            losses.BinaryFocalCrossentropy(from_logits=True),
            losses.Hinge(reduction="sum"),
            losses.SquaredHinge(reduction="mean"),
            losses.Poisson(reduction="mean_with_sample_weight"),
            losses.Dice(axis=(0,)),
            losses.Tversky(0.3, 0.7, axis=(0,)),
        ],
    ),
    "one-hot": (
        ONE_HOT,
        "softmax",
        3,
        [
            losses.CategoricalCrossentropy(label_smoothing=0.1),
            losses.CategoricalCrossentropy(from_logits=True, axis=-1),
            losses.CategoricalFocalCrossentropy(0.3, 1.5, label_smoothing=0.1),
            losses.CategoricalFocalCrossentropy(from_logits=True),
            losses.CategoricalHinge(),
            losses.KLDivergence(),
            losses.CosineSimilarity(axis=0),
            losses.CosineSimilarity(axis=-1),
        ],
    ),
    "index": (
        THREE_CLASSES[:, None],
        "softmax",
        3,
        [
            losses.SparseCategoricalCrossentropy(ignore_class=1),
            losses.SparseCategoricalCrossentropy(from_logits=True, axis=-1),
            losses.CategoricalGeneralizedCrossEntropy(q=0.3),
            losses.Circle(gamma=2.0, margin=0.2, remove_diagonal=False),
        ],
    ),
    "numbers": (
        NUMBERS,
        "softplus",
        2,
        [
            losses.MeanSquaredError(reduction="mean"),
            losses.MeanAbsoluteError(),
            losses.MeanAbsolutePercentageError(),
            losses.MeanSquaredLogarithmicError(),
            losses.Huber(0.3),
            losses.LogCosh(),
        ],
    ),
}
#: Of sequences of symbols, which no dense network has.
ELSEWHERE = {"CTC"}

METRICS = {
    "binary": lambda: [
        metrics.BinaryAccuracy(threshold=0.3),
        metrics.Accuracy(),
        metrics.BinaryCrossentropy(from_logits=True, label_smoothing=0.1),
        metrics.AUC(30, curve="PR", summation_method="minoring", multi_label=True, num_labels=1),
        metrics.AUC(thresholds=[0.2, 0.6], name="auc_of_two"),
        metrics.Precision(thresholds=0.4, class_id=0),
        metrics.Recall(thresholds=[0.3, 0.6]),
        metrics.TruePositives(thresholds=0.3),
        metrics.TrueNegatives(thresholds=[0.3]),
        metrics.FalsePositives(thresholds=0.6),
        metrics.FalseNegatives(),
        metrics.PrecisionAtRecall(0.4, num_thresholds=30),
        metrics.RecallAtPrecision(0.4, num_thresholds=30),
        metrics.SensitivityAtSpecificity(0.4, num_thresholds=30),
        metrics.SpecificityAtSensitivity(0.4, num_thresholds=30),
        metrics.Hinge(),
        metrics.SquaredHinge(),
        metrics.Poisson(),
        metrics.BinaryIoU([0], threshold=0.4),
        metrics.ConcordanceCorrelation(),
        metrics.PearsonCorrelation(),
    ],
    "one-hot": lambda: [
        metrics.CategoricalAccuracy(),
        metrics.TopKCategoricalAccuracy(k=2),
        metrics.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        metrics.CategoricalHinge(),
        metrics.KLDivergence(),
        metrics.CosineSimilarity(axis=0, name="cosine_over_rows"),
        metrics.F1Score(average="micro", threshold=0.4),
        metrics.FBetaScore(average="weighted", beta=2.0),
        metrics.OneHotIoU(3, [0, 2]),
        metrics.OneHotMeanIoU(3),
    ],
    "index": lambda: [
        metrics.SparseCategoricalAccuracy(),
        metrics.SparseTopKCategoricalAccuracy(k=2),
        metrics.SparseCategoricalCrossentropy(from_logits=True),
        metrics.IoU(3, [0, 1], sparse_y_pred=False),
        metrics.MeanIoU(3, sparse_y_pred=False, ignore_class=0),
    ],
    "numbers": lambda: [
        metrics.MeanAbsoluteError(),
        metrics.MeanAbsolutePercentageError(),
        metrics.MeanSquaredError(),
        metrics.MeanSquaredLogarithmicError(),
        metrics.RootMeanSquaredError(),
        metrics.LogCoshError(),
        metrics.R2Score(class_aggregation="variance_weighted_average"),
        metrics.MeanMetricWrapper(keras.losses.huber, delta=0.2, name="huber"),
    ],
}
#: They take values, not predictions and targets.
OF_VALUES = {"Mean", "Sum", "MeanTensor"}

OPTIMIZERS = {
    "SGD": {"momentum": 0.5, "nesterov": True, "weight_decay": 0.02, "clipvalue": 0.05},
    "RMSprop": {"rho": 0.7, "momentum": 0.4, "epsilon": 0.01, "centered": True, "use_ema": True, "ema_momentum": 0.8},
    "Adam": {"beta_1": 0.7, "beta_2": 0.9, "epsilon": 0.01, "amsgrad": True, "clipnorm": 0.2},
    "AdamW": {"weight_decay": 0.1, "beta_1": 0.7, "beta_2": 0.9, "epsilon": 0.01, "amsgrad": True},
    "Adamax": {"beta_1": 0.7, "beta_2": 0.9, "epsilon": 0.01, "global_clipnorm": 0.2},
    "Nadam": {"beta_1": 0.7, "beta_2": 0.9, "epsilon": 0.01, "loss_scale_factor": 4.0},
    "Adagrad": {"initial_accumulator_value": 0.3, "epsilon": 0.01, "gradient_accumulation_steps": 2},
    "Adadelta": {"rho": 0.8, "epsilon": 0.01, "weight_decay": 0.02},
    "Adafactor": {"beta_2_decay": -0.6, "epsilon_1": 1e-3, "clip_threshold": 0.5, "relative_step": False},
    "Ftrl": {
        "learning_rate_power": -0.4,
        "initial_accumulator_value": 0.3,
        "l1_regularization_strength": 0.001,
        "l2_regularization_strength": 0.01,
        "l2_shrinkage_regularization_strength": 0.01,
        "beta": 0.1,
    },
    "Lamb": {"beta_1": 0.7, "beta_2": 0.9, "epsilon": 0.01},
    "Lion": {"beta_1": 0.7, "beta_2": 0.8, "use_ema": True, "ema_overwrite_frequency": 3},
    "LossScaleOptimizer": {"initial_scale": 4.0, "dynamic_growth_steps": 3},
    "Muon": {"adam_beta_1": 0.7, "adam_beta_2": 0.9, "epsilon": 0.01, "momentum": 0.8, "ns_steps": 2},
    "ScheduleFreeAdamW": {"beta_1": 0.7, "beta_2": 0.9, "epsilon": 0.01, "warmup_steps": 5},
}
#: It is made of others, one for each group of layers.
OF_OTHERS = {"MultiOptimizer"}

REGULARIZERS = [
    regularizers.L1(0.003),
    regularizers.L2(0.02),
    regularizers.L1L2(0.002, 0.01),
    regularizers.OrthogonalRegularizer(0.02, mode="columns"),
]


def missing(kind, used, *known):
    """Names of classes of Keras of which none is used and that are not known to be left out."""
    return {name for one, name in classes(kind).items() if not any(type(u) is one for u in used)} - set().union(*known)


def test_none_is_missing():
    used = [loss for *_, found in LOSSES.values() for loss in found]
    assert missing("loss", used, ELSEWHERE) == set()
    used = [metric for make in METRICS.values() for metric in make()]
    assert missing("metric", used, OF_VALUES, {"MeanMetricWrapper"}) == set()
    assert set(classes("optimizer").values()) - set(OPTIMIZERS) - OF_OTHERS == set()
    assert missing("regularizer", REGULARIZERS) == set()


def branches(kind):
    """A model with an output for each loss of a kind, and all metrics at the first."""
    keras.utils.clear_session(free_memory=False)  # so that Keras counts the names of metrics anew
    y, head, outputs, found = LOSSES[kind]
    inputs = keras.Input((2,))
    hidden = layers.Dense(6, "tanh")(inputs)
    ends = [layers.Dense(outputs, head, name=f"end_{i}")(hidden) for i in range(len(found))]
    model = keras.Model(inputs, ends)
    model.compile(
        optimizers.SGD(0.002),
        loss=found,
        loss_weights=[1 + i / 10 for i in range(len(found))],
        metrics=[METRICS[kind](), *([] for _ in found[1:])],
    )
    return model, [y] * len(found)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", LOSSES)
def test_every_loss_and_metric(kind):
    _, y = branches(kind)
    tolerance = 1e-4 if kind == "numbers" else 1e-5  # the score R2 of a network that has hardly learned is below -10
    _, history = assert_twins(lambda: branches(kind)[0], y=y, tolerance=tolerance, **EVEN)
    assert len(history.history) == 2 * (1 + len(y) + len(METRICS[kind]()))


@pytest.mark.thorough
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name):
    def make():
        options = dict(OPTIMIZERS[name])
        first = [optimizers.SGD(0.05)] if name == "LossScaleOptimizer" else [0.01]
        model = stack(layers.Dense(4, "tanh"), optimizer=getattr(optimizers, name)(*first, **options))
        # `model.fit` would build it within its graph, where ScheduleFreeAdamW's first values are lost.
        model.optimizer.build(model.trainable_variables)
        return model

    known = set(dir(optimizers))
    if name not in known:
        pytest.skip(f"this Keras ({keras.__version__}) has no {name}")
    assert_twins(make, sample_weight=WEIGHTS)


@pytest.mark.thorough
def test_every_regularizer():
    def make():
        inner = [layers.Dense(4, "tanh", kernel_regularizer=one, bias_regularizer="l1") for one in REGULARIZERS]
        inner.append(layers.Dense(4, "tanh", activity_regularizer=REGULARIZERS[0]))
        return stack(*inner, optimizer=optimizers.SGD(0.05))

    assert_twins(make)


SINGLE = [
    (kind, i)
    for kind, (*_, found) in LOSSES.items()
    for i, loss in enumerate(found)
    if loss.reduction in ("sum_over_batch_size", "mean")
    and type(loss).__name__ not in ("Dice", "Tversky", "Circle")
    and getattr(loss, "_fn_kwargs", {}).get("axis") != 0
]


@pytest.mark.thorough
@pytest.mark.parametrize(("kind", "i"), SINGLE, ids=lambda value: str(value))
def test_every_loss_of_many_runs(kind, i):
    y, head, outputs, found = LOSSES[kind]

    def make():
        own = METRICS[kind]()[:3] if kind != "binary" else METRICS[kind]()[:1]
        return stack(
            layers.Dense(4, "tanh"),
            outputs=outputs,
            head=head,
            loss=found[i],
            metrics=own,
            optimizer=optimizers.SGD(0.02),
        )

    arguments = {"batch_size": 32, "epochs": 2, "validation_split": 0.2, "sample_weight": WEIGHTS}
    frame = training.fit_seeds(make, X, y, seeds=3, **arguments)
    model = fresh(make)
    training.draw_weights(model, 2)
    expected = training.fit(model, X, y, seed=2, **arguments).history
    rows = frame[frame["seed"] == 2]
    assert set(expected) < set(rows.columns)
    for name, value in expected.items():
        np.testing.assert_allclose(rows[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
