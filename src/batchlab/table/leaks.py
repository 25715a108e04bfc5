"""Features that give the target away by themselves. Never changes a table, never trains a network."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.tree import DecisionTreeClassifier

_MOST_ROWS = 10_000
_UNEXPLAINED = 0.01  # of what the feature should leave open
_LEAST_ROWS = 20  # fewer, where a column has most cells missing, fit anything


def leaks(features: pd.DataFrame, target: pd.Series, numeric_target: bool) -> list[str]:
    """Name the features from each of which alone the target can be read off: copies of it, or nearly.

    A feature of numbers is asked by a decision tree with one leaf a class (Breiman et al. 1984), or, where the target
    is numeric, by the rank correlation; one of categories by what is usual in each of them. It is named where the
    errors are at most a hundredth of those without it. At most 10,000 rows, drawn at random, are looked at.

    Args:
        features: Columns of numbers and of text, as `read_table` makes them.
        target: Classes as text, or numbers.
        numeric_target: Which of the two.

    Returns:
        A sentence a feature.
    """
    if len(features) > _MOST_ROWS:
        rows = np.random.default_rng(0).choice(len(features), _MOST_ROWS, replace=False)
        features, target = features.iloc[rows], target.iloc[rows]
    left_open = _of_numbers if numeric_target else _of_classes
    return [
        f"Column {name!r} alone gives the target away: {1 - share:.2%} of what there is to predict. Is it a copy of "
        "the target, or known only afterwards? If so, leave it out (drop): with it the result is worth little."
        for name in features
        if (share := left_open(features[name], target)) <= _UNEXPLAINED
    ]


def _of_classes(feature: pd.Series, target: pd.Series) -> float:
    """The share of errors that remains, of those that the commonest class makes."""
    there = feature.notna()
    feature, target = feature[there], target[there]
    if len(target) < _LEAST_ROWS or target.nunique() < 2:
        return 1.0
    wrong = 1 - target.value_counts(normalize=True).iloc[0]
    if pd.api.types.is_numeric_dtype(feature.dtype):
        x = feature.to_numpy()[:, None]
        if np.abs(x).max() > np.finfo(np.float32).max:  # scikit-learn's trees hold float32
            x = np.sign(x) * np.log1p(np.abs(x))
        tree = DecisionTreeClassifier(max_leaf_nodes=target.nunique(), random_state=0)
        return (1 - tree.fit(x, target).score(x, target)) / wrong
    if feature.nunique() > len(feature) // 10:  # so many categories say much by chance
        return 1.0
    usual = target.groupby(feature).agg(lambda cells: cells.value_counts().iloc[0])
    return (1 - usual.sum() / len(target)) / wrong


def _of_numbers(feature: pd.Series, target: pd.Series) -> float:
    """The share of the target's variance that remains; of that of its ranks, for a feature of numbers."""
    there = feature.notna()
    feature, target = feature[there], target[there]
    if len(target) < _LEAST_ROWS or min(feature.nunique(), target.nunique()) < 2:
        return 1.0
    if pd.api.types.is_numeric_dtype(feature.dtype):
        return 1 - feature.corr(target, method="spearman") ** 2
    if feature.nunique() > len(feature) // 10:
        return 1.0
    return float((target - target.groupby(feature).transform("mean")).var() / target.var())
