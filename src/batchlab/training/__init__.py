"""`fit` and `fit_seeds`: the semantics of `keras.Model.fit`, whole epochs in one XLA program.

Knows nothing of a table, a figure or a notebook; what none of its programs can train goes to `model.fit`.
"""

from batchlab import xla

xla.set_up()  # before TensorFlow is there

from batchlab.training.fit import fit  # noqa: E402
from batchlab.training.fit_seeds import fit_seeds  # noqa: E402
from batchlab.training.weights import draw_weights  # noqa: E402

__all__ = ["draw_weights", "fit", "fit_seeds"]
