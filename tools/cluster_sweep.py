"""Train a sweep on a Dask cluster on this machine, a scheduler and two workers: `make cluster`.

On a cluster of your own, give `sweep` a `dask.distributed.Client` of it; its workers need `pip install .[cluster]`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))
os.environ["PYTHONPATH"] = str(ROOT / "src")  # of the workers

from batchlab.environment import prepare  # noqa: E402

prepare()

from dask.distributed import Client, LocalCluster  # noqa: E402

from batchlab.models import OPTIMIZERS, build_model  # noqa: E402
from batchlab.study.sweep import sweep  # noqa: E402
from batchlab.table.ads import load_ads  # noqa: E402
from batchlab.table.scaling import scale_features  # noqa: E402

GRID = {
    "batch_size": [1, 32, 250],
    "optimizer": list(OPTIMIZERS),
    "learning_rate": [0.001, 0.01, 0.1],
    "seed": 64,
    "epochs": 20,
    "validation_split": 0.2,
}


def main() -> None:
    """Run the sweep and print the median validation loss of each setting."""
    x, y = scale_features(load_ads())
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        frame = sweep(build_model, x, y, GRID, store=ROOT / "build" / "cluster.sqlite", client=client, verbose=1)
    last = frame[frame["epoch"] == GRID["epochs"]]
    table = last.pivot_table("val_loss", ["optimizer", "learning_rate"], "batch_size", aggfunc="median")
    print(f"\nMedian validation loss (nats) of 64 runs after 20 epochs, by batch size\n{table.round(3)}")


if __name__ == "__main__":
    main()
