"""The order of the long frame's columns. Its contents are checked in test_helpers.py and test_fit_seeds.py."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from batchlab.results import METRICS, history_frame, ordered_figures


@given(st.permutations(METRICS))
def test_the_documented_figures_stand_in_one_order_whatever_came_first(names):
    assert ordered_figures(names) == list(METRICS)


@given(st.permutations(["loss", "a_loss", "z_loss", "accuracy", "val_loss", "val_a_loss", "val_accuracy", "val_zeal"]))
def test_the_loss_leads_even_where_an_output_comes_before_it_in_the_alphabet(names):
    assert ordered_figures(names) == [
        *("loss", "a_loss", "z_loss", "accuracy"),
        *("val_loss", "val_a_loss", "val_accuracy", "val_zeal"),
    ]


def test_a_history_s_frame_keeps_that_order():
    history = SimpleNamespace(
        epoch=[0, 1],
        params={"steps": 3},
        history={"val_loss": [0.3, 0.2], "precision": [0.5, 0.6], "accuracy": [0.6, 0.7], "loss": [0.4, 0.3]},
    )
    frame = history_frame(history, batch_size=32, seed=7)
    head = ["batch_size", "seed", "epoch", "updates"]
    assert list(frame.columns) == [*head, "loss", "accuracy", "precision", "val_loss"]
    assert frame.iloc[1].tolist() == [32, 7, 2, 6, 0.3, 0.7, 0.6, 0.2]
