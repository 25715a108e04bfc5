"""What tests of several modules need."""

from typing import Any, NamedTuple

import pytest


class Shown(NamedTuple):
    """One output of a cell."""

    data: dict[str, Any]
    metadata: dict[str, Any] | None


@pytest.fixture
def shown(monkeypatch):
    """What was displayed, as in a notebook."""
    outputs = []

    def display(data, *, metadata, raw):
        outputs.append(Shown(data, metadata))

    monkeypatch.setattr("IPython.get_ipython", lambda: "a shell")
    monkeypatch.setattr("IPython.display.display", display)
    return outputs
