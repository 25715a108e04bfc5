"""Features on one scale. Never splits, never touches the target's values."""

from __future__ import annotations

import numpy as np
import pandas as pd
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
