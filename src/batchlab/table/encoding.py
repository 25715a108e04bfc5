"""`split_and_encode`: from a checked table to arrays. Never lets a held-out row decide a scale or a category."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from batchlab.table.own import OwnTable
from batchlab.table.schema import complaint

HELD_OUT = 0.2
MOST_ROWS = 5000
"""Rows that are studied at most: all runs of a study on them take some two minutes on two cores."""

_NO_VALUE = "(missing)"


@dataclass(frozen=True)
class Encoded:
    """A table as a network takes it.

    Attributes:
        x: Features of the training rows, float32 of shape (rows, features).
        y: Their targets, float32 of shape (rows,): 0, 1, … for classes; for numbers, in standard deviations of the
            training rows from their mean.
        held_out: Features and targets of the others.
        names: Of the features, a category's as column_category.
        classes: Number of classes; None for a numeric target.
        scale: The standard deviation of a numeric target, in its own unit; NaN for classes.
        rows_left_out: Rows beyond `MOST_ROWS`.
    """

    x: np.ndarray = field(repr=False)
    y: np.ndarray = field(repr=False)
    held_out: tuple[np.ndarray, np.ndarray] = field(repr=False)
    names: list[str]
    classes: int | None
    scale: float
    rows_left_out: int


def split_and_encode(table: OwnTable, *, seed: int = 0) -> Encoded:
    """Hold out a fifth of the rows, of each class alike, and encode all by what the others say.

    Numbers are standardised (`StandardScaler`); a missing one is the median. Each category of the training rows is a
    feature of its own, 0 or 1 (`OneHotEncoder`), a missing cell among them; one that only the held-out rows have is 0
    throughout. Constant features become 0.

    Args:
        table: What `read_table` returns.
        seed: Decides which rows are held out, and which are studied of a table with more than `MOST_ROWS`.

    Raises:
        DataError: A column's numbers are too large to be scaled.
    """
    features, target = table.features, table.target
    strata = None if table.kind == "numeric" else target
    studied = np.arange(len(features))
    if len(studied) > MOST_ROWS:
        studied, _ = train_test_split(studied, train_size=MOST_ROWS, stratify=_frequent(strata), random_state=seed)
        strata = None if strata is None else strata.iloc[studied]
    train, valid = train_test_split(studied, test_size=HELD_OUT, stratify=_frequent(strata), random_state=seed)

    numbers = [name for name in features if pd.api.types.is_numeric_dtype(features[name].dtype)]
    categories = [name for name in features if name not in numbers]
    encoder = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            (
                "categories",
                make_pipeline(
                    SimpleImputer(strategy="constant", fill_value=_NO_VALUE, missing_values=None),
                    OneHotEncoder(handle_unknown="ignore", sparse_output=False),
                ),
                categories,
            ),
        ],
        verbose_feature_names_out=False,
    )
    with np.errstate(over="ignore", invalid="ignore"):
        parts = [encoder.fit(features.iloc[train]).transform(features.iloc[part]) for part in (train, valid)]
        x, x_held_out = (part.astype(np.float32) for part in parts)
    if not (np.isfinite(x).all() and np.isfinite(x_held_out).all()):
        worst = features[numbers].abs().max().idxmax()
        raise complaint(table.name, "its numbers are too large to be scaled", "correct them", column=worst)

    if table.kind == "numeric":
        values = target.to_numpy(np.float64)[:, None]
        scaler = StandardScaler().fit(values[train])
        y, y_held_out = (scaler.transform(values[part])[:, 0].astype(np.float32) for part in (train, valid))
        classes, scale = None, float(scaler.scale_[0])
    else:
        names = table.classes
        codes = target.map({name: code for code, name in enumerate(names)}).to_numpy(np.float32)
        y, y_held_out, classes, scale = codes[train], codes[valid], len(names), np.nan
    return Encoded(
        x,
        y,
        (x_held_out, y_held_out),
        list(encoder.get_feature_names_out()),
        classes,
        scale,
        len(features) - len(studied),
    )


def _frequent(strata: pd.Series | None) -> pd.Series | None:
    """Strata with those that have one row alone joined to the commonest, since they cannot be split."""
    if strata is None:
        return None
    counts = strata.value_counts()
    return strata.where(strata.map(counts) > 1, counts.index[0])
