"""Keras's backend, as far as it can be told before Keras is imported: here it must be TensorFlow. Imports nothing."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def require_tensorflow() -> None:
    """Insist that Keras runs, or will run, on TensorFlow.

    Raises:
        ImportError: It is set to another backend.
    """
    found, where = _chosen()
    if found != "tensorflow":
        raise ImportError(
            f"Batch Size Lab compiles Keras's training with TensorFlow, and {where} is {found!r}: set it to "
            "'tensorflow', before Keras is imported."
        )


def _chosen() -> tuple[str, str]:
    """Return Keras's backend, and what sets it; Keras looks at the same places in this order."""
    if "keras" in sys.modules and hasattr(sys.modules["keras"], "backend"):
        return sys.modules["keras"].backend.backend(), "the backend of the Keras that is imported"
    if os.environ.get("KERAS_BACKEND"):
        return os.environ["KERAS_BACKEND"], "the environment variable KERAS_BACKEND"
    file = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "keras.json"
    try:
        return json.loads(file.read_text()).get("backend", "tensorflow"), f"the backend in {file}"
    except (OSError, ValueError, AttributeError):
        return "tensorflow", "Keras's default"
