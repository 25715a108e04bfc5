"""Features on one scale, and an honest split. Never touches the target's values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from batchlab.table.ads import FEATURES, TARGET
from batchlab.table.schema import DataError


def scale_features(df: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Standardise age and salary over all rows: subtract the mean, divide by the standard deviation.

    As documented, the scaler sees every row, those of the later validation part included. The standard
    deviation is the population's (divisor n), as in `sklearn.preprocessing.StandardScaler`.

    Args:
        df: A table from `load_ads`; Age in years, EstimatedSalary in currency units a year.

    Returns:
        x, float32 of shape (rows, 2), in standard deviations; y, float32 of shape (rows,), 0 or 1.

    Raises:
        DataError: A needed column is missing, or a feature is constant, so that it has no scale.
    """
    source = df.attrs.get("source", "the table")
    missing = [name for name in (*FEATURES, TARGET) if name not in df.columns]
    if missing:
        raise DataError(
            f"{source}: column {missing[0]} is missing; found {', '.join(map(str, df.columns))}. "
            "Pass the frame that load_ads returns."
        )
    for name in FEATURES:
        if df[name].nunique() < 2:
            raise DataError(
                f"{source}: column {name} is constant, so its standard deviation is 0 and it cannot be "
                "scaled. Use a table in which it varies, or leave the column out."
            )
    x = StandardScaler().fit_transform(df[list(FEATURES)].to_numpy(dtype=np.float64))
    return x.astype(np.float32), df[TARGET].to_numpy(dtype=np.float32)


class Split(NamedTuple):
    """Training rows, and held-out rows as `fit` takes them; features on the scale of the training rows.

    Attributes:
        x: Features of the training rows, float32 of shape (rows, features).
        y: Their targets, shape (rows,).
        held_out: Features and targets of the others.
    """

    x: np.ndarray
    y: np.ndarray
    held_out: tuple[np.ndarray, np.ndarray]


def split_and_scale(x: np.ndarray, y: np.ndarray, *, held_out: float = 0.2, seed: int = 0) -> Split:
    """Hold out a share of the rows of each class, drawn at random, and scale by what the others say.

    Nothing of the held-out rows reaches the scaler. A feature that is constant in the training rows becomes 0 there.

    Args:
        x: Features, shape (rows, features).
        y: Classes, shape (rows,).
        held_out: Share of the rows, above 0 and below 1.
        seed: Decides which rows.

    Raises:
        ValueError: The share leaves a part without a class, or a class has one row alone.
    """
    parts = train_test_split(x, y, test_size=held_out, stratify=y, random_state=seed)
    x_train, x_held_out, y_train, y_held_out = parts
    scaler = StandardScaler().fit(np.asarray(x_train, np.float64))
    features = (scaler.transform(np.asarray(part, np.float64)).astype(np.float32) for part in (x_train, x_held_out))
    x_train, x_held_out = features
    return Split(x_train, np.asarray(y_train, np.float32), (x_held_out, np.asarray(y_held_out, np.float32)))
