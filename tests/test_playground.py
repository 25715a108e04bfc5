"""The playground without a browser: what it is given, and what stands where it cannot run. Its play: tests/browser."""

import base64
import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import helpers
from batchlab.figures import playground
from batchlab.figures.playground import playground_data

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path(playground.__file__).parent
plt.switch_backend("agg")  # now: with its first figure it would ask IPython, for which `shown` puts something else
JS, CSS = ((FOLDER / name).read_text(encoding="utf-8") for name in ("playground.js", "playground.css"))


@pytest.fixture
def other_table(monkeypatch, tmp_path):
    """A table that ADS_CSV names, as the real one would be; none of its rows may be shown."""
    rows = pd.read_csv(ROOT / "data" / "stand_in.csv")
    rows["Age"] = rows["Age"].to_numpy()[::-1]
    rows.to_csv(tmp_path / "real.csv", index=False)
    monkeypatch.setenv("ADS_CSV", str(tmp_path / "real.csv"))


def test_the_data_are_the_stand_in_whatever_table_is_named(other_table):
    data = json.loads(json.dumps(playground_data()))
    stand_in = pd.read_csv(ROOT / "data" / "stand_in.csv")
    x, y = helpers.scale_features(stand_in)
    np.testing.assert_array_equal(np.float32(data["x"]), x)
    assert data["y"] == y.tolist()
    assert data["rows"] == 320  # what validation_split=0.2 leaves of 400
    for axis, (place, column) in enumerate(zip(data["axes"], helpers.FEATURES, strict=True)):
        restored = np.array(data["x"])[:, axis] * place["deviation"] + place["mean"]
        np.testing.assert_allclose(restored, stand_in[column], rtol=1e-5)
    assert "synthetic" in data["source"]


def test_each_batch_size_has_the_colour_of_all_figures():
    colours = playground_data()["colours"]
    assert colours == {size: helpers.colour(int(size)) for size in colours}
    assert {"1", "2", "4", "32", "250", "256", "320"} <= colours.keys()
    assert not [colour for colour in colours.values() if colour.lower() in JS.lower()]  # it has them from here alone


def test_where_nobody_looks_there_is_a_picture_with_its_text(shown, monkeypatch, other_table):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    helpers.playground()
    ((data, metadata),) = shown
    assert data.keys() == {"image/png", "text/plain"}
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    alt = metadata["image/png"]["alt"]
    assert data["text/plain"] == alt
    stand_in = pd.read_csv(ROOT / "data" / "stand_in.csv")
    bought = stand_in[stand_in["Purchased"] == 1]
    for figure in (len(stand_in), len(bought), f"{bought['Age'].mean():.0f} years", "JupyterLab, VS Code or Colab"):
        assert str(figure) in alt


def test_in_jupyterlab_the_widget_lies_over_the_same_picture(shown, monkeypatch):
    pictures = []
    for session in (None, "00_start_here.ipynb"):
        monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
        if session:
            monkeypatch.setenv("JPY_SESSION_NAME", session)
        helpers.playground()
        pictures.append(shown[-1][0]["image/png"])
    data, metadata = shown[-1]
    assert pictures[0] == pictures[1]
    assert data.keys() == {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"}
    assert data["text/plain"] == metadata["image/png"]["alt"]


def test_the_widget_carries_module_look_and_data():
    from batchlab.figures.playground.widget import Playground

    state = Playground(data=playground_data()).get_state()
    assert (state["_esm"], state["_css"]) == (JS, CSS)
    assert state["data"] == playground_data()


# What loads something, in a module or in its look. A browser sees what it did load: tests/browser.
LOADS = re.compile(
    r"^\s*import\b|\bimport\(|https?:|\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon|@import|url\(", re.MULTILINE
)


def test_the_module_is_one_file_that_needs_no_network():
    assert not LOADS.search(JS) and not LOADS.search(CSS)


@pytest.mark.parametrize(
    "source",
    [
        "let a;\n  import * as d3 from './d3.js'",
        "const d3 = await import(name)",
        "const place = 'https://example.org'",
        "fetch(name)",
        "new XMLHttpRequest()",
        "new WebSocket(name)",
        "navigator.sendBeacon(name)",
        "@import 'other.css';",
        "a { background: url(picture.png) }",
    ],
)
def test_what_needs_a_network_would_be_seen(source):
    assert LOADS.search(source)
