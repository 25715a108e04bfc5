"""Whole epochs of training as one XLA program each. Never reads files, never prints.

Keras spends most of a step on a small model in Python. Here the loop over batches is inside the program, so Python is
entered once an epoch, or once for many epochs:

- `epoch.EpochProgram` runs Keras's own `train_step` and `test_step` on the live model: any model, any optimizer.
- `flat.FlatProgram` keeps all parameters in one vector, many epochs at once: one plain model.
- `seeds.SeedsProgram` keeps the runs of many seeds side by side: chains of Dense layers.

`loop` holds what they share, `cache` keeps them for the next model of the same structure.
"""
