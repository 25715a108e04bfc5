"""Train plain Keras from many seeds, and keep the final figures: what the distribution of our runs is compared with.

`make reference` calls it, some minutes long. The figures go to `tests/keras_reference.json`, with what they come from;
a test trains a part of them anew each time.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from batchlab.environment import prepare  # noqa: E402

prepare()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import helpers  # noqa: E402

REFERENCE = ROOT / "tests" / "keras_reference.json"
RUNS, EPOCHS, BATCH_SIZE, TRAIN_ROWS = 40, 8, 32, 320


def data() -> tuple[np.ndarray, np.ndarray]:
    """Return the stand-in, scaled, its training rows sorted by their class, so that shuffling matters."""
    x, y = helpers.scale_features(helpers.load_ads(ROOT / "data" / "stand_in.csv"))
    order = np.concatenate([np.argsort(y[:TRAIN_ROWS], kind="stable"), np.arange(TRAIN_ROWS, len(y))])
    return x[order], y[order]


def plain_runs(seeds: range) -> dict[str, list[float]]:
    """Train the documented model with `keras.Model.fit`: its own initial weights, its own shuffles.

    Args:
        seeds: One for each run.

    Returns:
        For each figure its value at the last epoch, in the order of the seeds.
    """
    x, y = data()
    model = helpers.build_model()
    model.optimizer.build(model.trainable_variables)
    begin = [variable.numpy() for variable in model.optimizer.variables]
    found = []
    for seed in seeds:
        model.set_weights(helpers.build_model(seed=seed).get_weights())
        for variable, value in zip(model.optimizer.variables, begin, strict=True):
            variable.assign(value)
        for epoch in range(EPOCHS):
            # Once seeded, Keras puts the rows in the same order in all epochs of a call, so each epoch gets its own.
            keras.utils.set_random_seed(1000 * seed + epoch)
            span = {"epochs": epoch + 1, "initial_epoch": epoch}
            history = model.fit(x, y, **span, batch_size=BATCH_SIZE, validation_split=0.2, verbose=0).history
        found.append(history)
    return {name: [history[name][0] for history in found] for name in found[0]}


def main() -> None:
    """Write the reference."""
    figures = {name: [round(value, 7) for value in values] for name, values in plain_runs(range(RUNS)).items()}
    record = {
        "what": f"figures of plain Keras after {EPOCHS} epochs at batch size {BATCH_SIZE}, seeds 0 to {RUNS - 1}",
        "command": "make reference",
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
        "figures": figures,
    }
    REFERENCE.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
