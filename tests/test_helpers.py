from itertools import product
from types import SimpleNamespace

import keras
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest

import helpers


@pytest.fixture(scope="module")
def table():
    return helpers.load_ads("data/stand_in.csv")


@pytest.fixture(scope="module")
def history(table):
    x, y = helpers.scale_features(table)
    return helpers.fit(helpers.build_model(seed=3), x, y, batch_size=250, epochs=3, validation_split=0.2, seed=3)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_scaled_features_have_mean_0_and_population_deviation_1(table):
    x, y = helpers.scale_features(table)
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((400, 2), np.float32, (400,), np.float32)
    np.testing.assert_allclose(x.mean(axis=0, dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(axis=0, dtype=np.float64), 1, atol=1e-6)
    age = table["Age"].to_numpy()
    np.testing.assert_allclose(x[:, 0], (age - age.mean()) / age.std(), rtol=1e-5, atol=1e-6)
    assert y.tolist() == table["Purchased"].tolist()


def test_a_constant_column_is_refused_by_name(table):
    with pytest.raises(helpers.DataError, match="EstimatedSalary is constant"):
        helpers.scale_features(table.assign(EstimatedSalary=1000))


def test_a_missing_column_is_refused_by_name(table):
    with pytest.raises(helpers.DataError, match="column Age is missing"):
        helpers.scale_features(table.drop(columns="Age"))


def test_the_documented_model_by_default():
    model = helpers.build_model(name="documented")
    setting = helpers.documented_runs()["setting"]
    layers = [["Dense", layer.units, layer.activation.__name__] for layer in model.layers]
    assert layers == setting["layers"]
    assert [layer.count_params() for layer in model.layers] == setting["parameters_per_layer"]
    assert model.count_params() == setting["parameters"] == 151
    assert (model.name, model.loss) == ("documented", setting["loss"])
    assert isinstance(model.optimizer, keras.optimizers.RMSprop)
    assert float(model.optimizer.learning_rate.numpy()) == pytest.approx(0.001)


def test_a_seed_fixes_the_initial_weights_and_no_seed_draws_fresh_ones():
    def weights(seed):
        return np.concatenate([w.ravel() for w in helpers.build_model(seed=seed).get_weights()])

    np.testing.assert_array_equal(weights(1), weights(1))
    assert not np.array_equal(weights(1), weights(2))
    assert not np.array_equal(weights(None), weights(None))


@pytest.mark.parametrize(
    ("arguments", "error", "what"),
    [
        ({"hidden": (10, 0)}, ValueError, r"`hidden\[1\]` is 0"),
        ({"hidden": (-3,)}, ValueError, r"`hidden\[0\]` is -3"),
        ({"hidden": (2.5,)}, TypeError, r"`hidden\[0\]` is 2.5"),
        ({"hidden": (True,)}, TypeError, r"`hidden\[0\]` is True"),
        ({"hidden": ("10",)}, TypeError, r"`hidden\[0\]` is '10'"),
        ({"features": 0}, ValueError, "`features` is 0"),
    ],
)
def test_nonsense_sizes_are_refused(arguments, error, what):
    with pytest.raises(error, match=what):
        helpers.build_model(**arguments)


def test_a_model_without_hidden_layers_is_logistic_regression():
    assert helpers.build_model(hidden=()).count_params() == 3


def test_history_frame_is_long_and_counts_updates(history):
    frame = helpers.history_frame(history, batch_size=250, seed=3)
    assert list(frame.columns) == ["batch_size", "seed", "epoch", "updates", *helpers.METRICS]
    assert frame["epoch"].tolist() == [1, 2, 3]
    assert frame["updates"].tolist() == [2, 4, 6]
    assert frame["loss"].tolist() == history.history["loss"]


def test_a_run_repeats_from_its_seed(table, history):
    x, y = helpers.scale_features(table)
    again = helpers.fit(helpers.build_model(seed=3), x, y, batch_size=250, epochs=3, validation_split=0.2, seed=3)
    np.testing.assert_allclose(again.history["loss"], history.history["loss"], rtol=1e-6)


def made_up_runs(batch_size, epochs, seeds=5):
    """Runs whose figures are 0, 1/4, 1/2, 3/4 and 1 at every epoch."""
    grid = pd.MultiIndex.from_product([range(seeds), range(1, epochs + 1)], names=["seed", "epoch"])
    frame = grid.to_frame(index=False)
    return frame.assign(updates=frame["epoch"], **dict.fromkeys(helpers.METRICS, frame["seed"] / (seeds - 1)))


@pytest.mark.parametrize("batch_size", [1, 250])
def test_comparison_places_every_documented_figure_among_the_runs(batch_size):
    epochs = helpers.documented_runs()["runs"][str(batch_size)]["epoch"]
    table = helpers.compare_with_documented(made_up_runs(batch_size, max(map(int, epochs))), batch_size)
    assert len(table) == sum(map(len, epochs.values()))
    for epoch, figures in epochs.items():
        for metric, value in figures.items():
            row = table.loc[(int(epoch), metric)]
            assert row["documented"] == value
            assert row["one run"] == 0
            assert row["median"] == 0.5
            assert (row["2.5 %"], row["97.5 %"]) == pytest.approx((0.025, 0.975))
            assert row["percentile"] == 20 * sum(figure < value for figure in (0, 0.25, 0.5, 0.75, 1))


def test_percentile_counts_ties_half():
    runs = made_up_runs(250, 10).assign(accuracy=0.7125)
    assert helpers.compare_with_documented(runs, 250).loc[(10, "accuracy"), "percentile"] == 50


def test_comparison_refuses_what_is_not_documented(history):
    frame = helpers.history_frame(history, batch_size=250)
    with pytest.raises(ValueError, match="No figures are documented for batch size 32"):
        helpers.compare_with_documented(frame, 32)
    with pytest.raises(ValueError, match="The runs have 3 epochs, but epoch 10"):
        helpers.compare_with_documented(frame, 250)


def test_documented_figures_are_drawn_where_they_belong():
    ax = helpers.plot_documented(helpers.subplots()[1][0], 1, "val_loss")
    epochs = helpers.documented_runs()["runs"]["1"]["epoch"]
    expected = [[int(epoch), figures["val_loss"]] for epoch, figures in epochs.items()]
    assert ax.collections[0].get_offsets().tolist() == expected


def test_plot_history_draws_four_curves_with_units_legend_and_alt_text(history):
    axes = helpers.plot_history(history, batch_size=250)
    drawn = [line.get_ydata().tolist() for ax in axes for line in ax.get_lines()]
    assert drawn == [history.history[k] for k in ("loss", "val_loss", "accuracy", "val_accuracy")]
    assert [ax.get_ylabel() for ax in axes] == ["loss (nats)", "accuracy (share of rows)"]
    assert all(ax.get_xlabel() == "epoch" and ax.get_legend() for ax in axes)
    alt = axes[0].figure.get_label()
    assert "batch size 250" in alt and "3 epochs" in alt and f"{history.history['val_loss'][-1]:.2f}" in alt


def test_plot_history_refuses_a_history_without_validation(table):
    x, y = helpers.scale_features(table)
    history = helpers.fit(helpers.build_model(seed=0), x, y, batch_size=250, epochs=1)
    with pytest.raises(ValueError, match="no val_loss, val_accuracy"):
        helpers.plot_history(history, batch_size=250)


def test_bands_hold_95_percent_of_runs():
    seeds = np.arange(201)
    frame = pd.concat(
        pd.DataFrame({"batch_size": 32, "seed": seeds, "epoch": e, "loss": seeds / 200 + e}) for e in (1, 2)
    )
    ax = helpers.plot_bands(frame)
    (line,) = ax.get_lines()
    np.testing.assert_allclose(line.get_ydata(), [1.5, 2.5])
    (band,) = ax.collections
    bottom, top = band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max()
    assert (bottom, top) == pytest.approx((1.025, 2.975))
    assert line.get_color() == helpers.colour(32)


def test_a_single_run_has_no_band(history):
    ax = helpers.plot_bands(helpers.history_frame(history, batch_size=250), y="val_loss", x="updates")
    assert not ax.collections
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), history.history["val_loss"])
    assert ax.get_xlabel() == "updates (optimizer steps)"


def test_bands_refuse_a_column_that_is_not_there(history):
    with pytest.raises(ValueError, match="no column precision"):
        helpers.plot_bands(helpers.history_frame(history, batch_size=250), y="precision")


def losses(batch_size, seeds, epochs, height):
    """Results whose losses say where they come from: seed / 100, one less each epoch, and the height."""
    rows = [(batch_size, seed, epoch, seed / 100 - epoch + height) for seed in range(seeds) for epoch in epochs]
    frame = pd.DataFrame(rows, columns=["batch_size", "seed", "epoch", "loss"])
    return frame.assign(learning_rate=0.0003, val_loss=frame["loss"] + 10)


def test_runs_are_drawn_beside_the_median_of_others_and_told():
    runs, reference = losses(8, 101, (1, 2), 0), losses(32, 3, (1, 2, 3), 5)
    figure, alt = helpers.plot_beside(runs, reference, name="three runs", ylim=(0, 20))
    for ax, shift in zip(figure.axes, (0, 10), strict=True):
        median, dotted = ax.get_lines()
        assert (median.get_color(), len(ax.collections), ax.get_ylim()) == (helpers.colour(8), 1, (0, 20))
        np.testing.assert_allclose(median.get_ydata(), [shift - 0.5, shift - 1.5])
        np.testing.assert_allclose(dotted.get_ydata(), [shift + 4.01, shift + 3.01])  # up to the runs' last epoch
    assert alt == (
        "Median and 95 % band of 101 runs at batch size 8, learning rate 0.0003, 2 epochs; a dotted line is the median "
        "of three runs. Left, training loss ends at -1.500 nats, the band from -1.975 to -1.025, the dotted line at "
        "3.010. Right, validation loss ends at 8.500 nats, the band from 8.025 to 8.975, the dotted line at 13.010."
    )
    figure, alt = helpers.plot_beside(losses(8, 1, (1, 2), 0), reference, name="three runs", ylim=(0, 20))
    assert not any(ax.collections for ax in figure.axes)
    assert alt.startswith("One run at batch size 8") and "-2.000 nats, the dotted line" in alt


def test_the_sliders_on_the_documented_experiment_train_each_setting_once():
    """The cells of `04_batch_size_32`, on results that take no training."""
    notebook = nbformat.read("notebooks/04_batch_size_32.ipynb", as_version=4)
    sources = [
        cell.source for cell in notebook.cells if "def trained(" in cell.source or "helpers.sliders(" in cell.source
    ]
    asked, offered = [], {}

    def fit_seeds(build_model, x, y, *, seeds, batch_size, epochs, learning_rates, validation_split):
        asked.append((batch_size, *learning_rates))
        return losses(batch_size, seeds, range(1, epochs + 1), 0).assign(learning_rate=learning_rates[0])

    def sliders(draw, **choices):
        offered.update(choices, draw=draw)

    scope = {
        "helpers": SimpleNamespace(
            build_model=None, fit_seeds=fit_seeds, plot_beside=helpers.plot_beside, sliders=sliders
        ),
        "results": losses(32, 256, range(1, 101), 0),
        "answer": pd.DataFrame({"loss": [0]}, index=pd.MultiIndex.from_tuples([(100, 0.5)])),
        "x": None,
        "y": None,
    }
    for source in sources:
        exec(source, scope)
    draw = offered.pop("draw")
    settings = [dict(zip(offered, values, strict=True)) for values in product(*offered.values())]
    for setting in [{}, *settings]:
        _, alt = draw(**setting)
        plt.close("all")
        assert (
            f"batch size {setting.get('batch_size', 32)}, learning rate {setting.get('learning_rate', 0.01):g}," in alt
        )
    assert sorted(asked) == sorted(product(offered["batch_size"], offered["learning_rate"]))  # and the runs are a part


def test_plotting_leaves_global_settings_alone(history):
    before = dict(plt.rcParams)
    helpers.plot_history(history, batch_size=250)
    assert dict(plt.rcParams) == before
