import keras
import matplotlib.pyplot as plt
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
    assert len(table) == 12
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
    assert ax.collections[0].get_offsets().tolist() == [[1, 0.8103], [2, 0.8065], [500, 0.1856]]


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


def test_plotting_leaves_global_settings_alone(history):
    before = dict(plt.rcParams)
    helpers.plot_history(history, batch_size=250)
    assert dict(plt.rcParams) == before


# --- verdicts ----------------------------------------------------------------------------------------


def test_a_verdict_displays_the_claim_the_outcome_and_the_sentence(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    helpers.verdict("G5", "holds", "All 12 runs left it.")
    helpers.verdict("G5", "holds only if", "the step is long: 0.3 at least.")
    claim = "The noise helps to escape shallow local minima."
    assert shown[0]["text/plain"] == f"Claim G5. {claim} Holds. All 12 runs left it."
    assert shown[1]["text/plain"] == f"Claim G5. {claim} Holds only if the step is long: 0.3 at least."
    assert shown[0]["text/markdown"] == f"> **Claim G5.** *{claim}*\n>\n> **Holds.** All 12 runs left it."


@pytest.mark.parametrize(
    ("claim", "outcome", "sentence", "complaint"),
    [
        ("X1", "holds", "1 of 1.", "there is no claim 'X1'; data/claims.json holds G1"),
        ("G1", "true", "1 of 1.", "'true' is no verdict; choose among 'holds'"),
        ("G1", "holds", "Surely.", "no measured figure"),
    ],
)
def test_a_verdict_that_says_nothing_is_refused(claim, outcome, sentence, complaint):
    with pytest.raises(ValueError, match=complaint):
        helpers.verdict(claim, outcome, sentence)


def test_an_answer_displays_the_question_and_the_sentence(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    helpers.answer("Q2", "By a factor of 2.")
    question = "How do learning rate and schedules interact with batch size?"
    assert shown[0]["text/plain"] == f"Question Q2. {question} Answer. By a factor of 2."
    assert shown[0]["text/markdown"] == f"> **Question Q2.** *{question}*\n>\n> **Answer.** By a factor of 2."


def test_a_claim_is_not_answered_and_a_question_gets_no_verdict():
    with pytest.raises(ValueError, match=r"answer: there is no question 'E1'; data/claims\.json holds Q1"):
        helpers.answer("E1", "1 of 1.")
    with pytest.raises(ValueError, match="verdict: there is no claim 'Q1'"):
        helpers.verdict("Q1", "holds", "1 of 1.")
    with pytest.raises(ValueError, match="no measured figure"):
        helpers.answer("Q1", "Surely.")
