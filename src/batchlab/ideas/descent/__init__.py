"""Gradient descent where everything about it is known: losses with two parameters, the paths over them, their noise.

All is float64 NumPy; neither TensorFlow nor Keras takes part.
"""

from batchlab.ideas.descent.losses import (
    KernelLoss,
    LogisticLoss,
    Loss,
    SquaredLoss,
    curvatures,
    minimise,
    stable_step_size,
)
from batchlab.ideas.descent.noise import gradient_variance, stationary_covariance
from batchlab.ideas.descent.paths import (
    Order,
    basin,
    descend,
    observed_limit,
    rmsprop_step,
    schedule,
    updates_per_epoch,
)
from batchlab.statistics import power_law

__all__ = [
    "KernelLoss",
    "LogisticLoss",
    "Loss",
    "Order",
    "SquaredLoss",
    "basin",
    "curvatures",
    "descend",
    "gradient_variance",
    "minimise",
    "observed_limit",
    "power_law",
    "rmsprop_step",
    "schedule",
    "stable_step_size",
    "stationary_covariance",
    "updates_per_epoch",
]
