"""The engines behind the notebooks of Batch Size Lab, a room for each topic; `from batchlab import fit, fit_seeds`.

Imports nothing heavy until a name is asked for: the set-up of a notebook runs before TensorFlow is there.
"""

from importlib import import_module

from batchlab.backend import require_tensorflow

require_tensorflow()

_ROOMS = {
    "fit": "batchlab.training",
    "fit_seeds": "batchlab.training",
    "draw_weights": "batchlab.training",
    "DataError": "batchlab.table.schema",
}

__all__ = ["DataError", "draw_weights", "fit", "fit_seeds"]


def __getattr__(name: str) -> object:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ROOMS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
