import base64
import os

import matplotlib.pyplot as plt
import pytest

from batchlab.figures import style
from batchlab.figures.show import show
from batchlab.figures.sliders import sliders


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def shown(monkeypatch):
    """What was displayed: pairs of data and metadata."""
    displayed = []
    monkeypatch.setattr(
        "IPython.display.display", lambda data, *, metadata=None, raw=False: displayed.append((data, metadata))
    )
    return displayed


def test_each_batch_size_has_a_colour_of_its_own_and_others_are_refused():
    assert len({style.colour(size) for size in (1, 8, 32, 250, "all")}) == 5
    with pytest.raises(ValueError, match="No colour stands for batch size 7; there is one for 1, 8, 32, 250, 'all'"):
        style.colour(7)


def test_subplots_opens_planes_and_spaces_and_leaves_global_settings_alone():
    before = dict(plt.rcParams)
    figure, (space, plane) = style.subplots(2, width=7, height=3, projections=("3d", None))
    assert (space.name, plane.name) == ("3d", "rectilinear")
    assert figure.get_size_inches().tolist() == [7, 3]
    assert dict(plt.rcParams) == before
    with pytest.raises(ValueError, match="2 columns, but 1 projections"):
        style.subplots(2, projections=("3d",))


def test_show_displays_a_png_with_its_alt_text_and_closes_the_figure(shown):
    figure, (ax,) = style.subplots()
    ax.plot([1, 2])
    show(ax, "A line that rises from 1 to 2.")
    ((data, metadata),) = shown
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert data["text/plain"] == metadata["image/png"]["alt"] == "A line that rises from 1 to 2."
    assert not plt.fignum_exists(figure.number)


def test_show_refuses_a_figure_without_alt_text():
    with pytest.raises(ValueError, match="alt"):
        show(style.subplots()[1])


# --- sliders -----------------------------------------------------------------------------------------


def draw(batch_size=32, rate=0.1):
    figure, (ax,) = style.subplots()
    ax.plot([batch_size, rate])
    return figure, f"A line from batch size {batch_size} to rate {rate}."


def test_sliders_leave_a_static_figure_of_the_defaults_where_nobody_looks(shown, monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    sliders(draw, batch_size=[1, 32], rate=[0.1, 0.2])
    ((data, _),) = shown
    assert set(data) == {"image/png", "text/plain"}
    assert data["text/plain"] == "A line from batch size 32 to rate 0.1."


def test_sliders_add_live_controls_to_the_same_figure_in_jupyterlab(shown, monkeypatch):
    import ipywidgets

    monkeypatch.setitem(os.environ, "JPY_SESSION_NAME", "01.ipynb")
    made = []
    monkeypatch.setattr(
        ipywidgets,
        "interactive_output",
        lambda redraw, controls: made.append((redraw, controls)) or ipywidgets.Output(),
    )
    sliders(draw, batch_size=[1, 32], rate=[0.1, 0.2])
    data, _ = shown[0]
    assert {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"} == set(data)
    ((redraw, controls),) = made
    assert {name: slider.options for name, slider in controls.items()} == {"batch_size": (1, 32), "rate": (0.1, 0.2)}
    assert controls["batch_size"].value == 32
    redraw(batch_size=1, rate=0.2)
    assert shown[1][0]["text/plain"] == "A line from batch size 1 to rate 0.2."


@pytest.mark.parametrize(
    ("choices", "complaint"),
    [
        ({"batch_size": [1, 32]}, "draw takes batch_size, rate, the choices are for batch_size"),
        ({"batch_size": [1], "rate": [0.1]}, "the default of batch_size is not among its choices"),
    ],
)
def test_sliders_refuse_choices_that_do_not_fit(choices, complaint):
    with pytest.raises(ValueError, match=complaint):
        sliders(draw, **choices)
