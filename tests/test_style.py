import base64
import io
import os

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib import colors
from PIL import Image

from batchlab.figures import style
from batchlab.figures.show import show
from batchlab.figures.sliders import sliders


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_each_batch_size_has_a_colour_of_its_own():
    sizes = [*(2**power for power in range(9)), 250, 320, 1000, "all"]
    assert len({style.colour(size) for size in sizes}) == len(sizes)
    assert (style.colour(1), style.colour(32), style.colour(250)) == ("#D55E00", "#009E73", "#0072B2")
    # Half way from 8 to 32, by the logarithm: each channel in the middle.
    ends = [colors.to_rgb(style.colour(size)) for size in (8, 32)]
    np.testing.assert_allclose(colors.to_rgb(style.colour(16)), np.mean(ends, axis=0), atol=1 / 255)


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-1, ValueError), (2.5, TypeError), ("some", TypeError)])
def test_what_is_no_batch_size_has_no_colour(size, error):
    with pytest.raises(error, match="`batch_size` is"):
        style.colour(size)


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


def crowded():
    """A figure with far more colours than 256: a surface, bands that overlap, and a thin line of each batch size."""
    figure, (solid, flat) = style.subplots(2, projections=("3d", None))
    x, y = np.meshgrid(np.linspace(-1, 1, 121), np.linspace(-1, 1, 121))
    solid.plot_surface(x, y, x**2 + y**2, cmap="cividis", linewidth=0, rcount=60, ccount=60)  # seams and all
    for place, size in enumerate((1, 8, 32, 250, "all")):
        flat.plot([0, 1, 2], [place, place, place + 2], color=style.colour(size), linewidth=1.3, label=str(size))
        flat.fill_between([0, 2], place - 1, place + 2, color=style.colour(size), alpha=0.18, linewidth=0)
    flat.set(title="A title", xlabel="epoch", ylabel="loss (nats)")
    return figure


def test_a_shown_picture_is_as_sharp_and_keeps_its_colours_in_a_third_of_the_bytes(shown):
    figure = crowded()
    show(figure, "A bowl, and five lines with their bands.")
    png = base64.b64decode(shown[0][0]["image/png"])
    whole = io.BytesIO()
    figure.savefig(whole, format="png", dpi=160, facecolor=figure.get_facecolor())
    before, after = (np.asarray(Image.open(file).convert("RGB")).astype(int) for file in (whole, io.BytesIO(png)))

    assert after.shape == before.shape == (576, 1440, 3)  # 160 dots an inch
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 5000 and Image.open(io.BytesIO(png)).mode == "P"
    assert len(png) < 0.4 * len(whole.getvalue())
    # Of 255: no dot is another colour, and the average one is not off by one.
    assert np.abs(after - before).max() <= 20 and np.abs(after - before).mean() < 1
    for name in (style.PAGE, style.INK, style.MUTED, *(style.colour(size) for size in (1, 8, 32, 250, "all"))):
        shade = np.round(255 * np.array(colors.to_rgb(name)))
        dots = (before == shade).all(axis=-1)
        assert dots.sum() > 100, name
        assert np.abs(after[dots] - shade).max() <= 2, name


# --- sliders -----------------------------------------------------------------------------------------


def draw(batch_size=32, rate=0.1):
    figure, (ax,) = style.subplots()
    ax.plot([batch_size, rate])
    return figure, f"A line from batch size {batch_size} to rate {rate}."


def test_a_plain_script_prints_what_a_figure_shows(capsys):
    _, (ax,) = style.subplots()
    show(ax, "Nothing yet.")
    assert capsys.readouterr().out == "Nothing yet.\n"


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


def test_a_slider_that_is_moved_draws_anew_and_one_that_is_not_does_not(shown, monkeypatch):
    import ipywidgets

    monkeypatch.setitem(os.environ, "JPY_SESSION_NAME", "01.ipynb")
    real, made = ipywidgets.interactive_output, {}
    monkeypatch.setattr(
        ipywidgets, "interactive_output", lambda redraw, controls: made.update(controls) or real(redraw, controls)
    )
    sliders(draw, batch_size=[1, 32], rate=[0.1, 0.2])
    made["batch_size"].value = 1
    made["rate"].value = 0.1  # as it was
    made["rate"].value = 0.2
    texts = [data["text/plain"] for data, _ in shown if "image/png" in data]
    assert texts[-2:] == ["A line from batch size 1 to rate 0.1.", "A line from batch size 1 to rate 0.2."]
    assert len(texts) == 4  # the figure, the same as the sliders begin, and one for each move


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
