"""Whole epochs of training as one XLA program each. Never reads files, never prints.

Keras spends most of a step on a small model in Python. Here the loop over batches is inside the program, so Python is
entered once an epoch, or once for many epochs:

- `single.SingleProgram` trains one run of any model that XLA can compile.
- `seeds.SeedsProgram` keeps the runs of many seeds side by side, in vector registers: chains of Dense layers.
- `vectorised.VectorisedProgram` does so for other models: Keras's step of one run, mapped over the runs.

`loop` holds what they share, `cache` keeps them for the next model of the same structure.
"""
