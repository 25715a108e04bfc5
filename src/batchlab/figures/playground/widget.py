"""The playground as a widget that every Jupyter front end loads. Never computes: the browser does."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets

_HERE = Path(__file__).parent


class Playground(anywidget.AnyWidget):
    """The playground, live in JupyterLab, VS Code and Colab.

    Attributes:
        data: What `batchlab.figures.playground.playground_data` returns.
    """

    _esm = (_HERE / "playground.js").read_text(encoding="utf-8")
    _css = (_HERE / "playground.css").read_text(encoding="utf-8")
    data = traitlets.Dict().tag(sync=True)
