"""A small sweep in a process of its own, for tests that kill it: `python sweep_process.py STORE RESULT`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import numpy as np

from batchlab.models import build_model
from batchlab.study.sweep import sweep

GENERATOR = np.random.default_rng(1)
X = GENERATOR.normal(size=(60, 2)).astype(np.float32)
Y = (X.sum(axis=1) + GENERATOR.normal(size=60) > 0).astype(np.float32)
GRID = {
    "batch_size": [7, 48],  # with a remainder, and all rows
    "optimizer": ["SGD", "Adam"],
    "hidden": (3,),
    "learning_rate": [0.01, 0.1],
    "seed": 130,  # in two blocks of seeds
    "epochs": 20,
    "validation_split": 0.2,
}


def run(store, client=None):
    return sweep(build_model, X, Y, GRID, store=store, kept_epochs=[1, 2, 5, 10, 20], client=client)


if __name__ == "__main__":
    print("ready", flush=True)
    run(sys.argv[1]).to_pickle(sys.argv[2])
