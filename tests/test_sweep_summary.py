"""The committed summary of the sweep: of the real table, complete, and with best rates that follow from it."""

import numpy as np

from batchlab.study.summary import sweep_summary
from batchlab.table.ads import CANONICAL_FINGERPRINT

SETTINGS, BEST, PROVENANCE = sweep_summary()
OF_AN_AIM = ["table", "optimizer", "batch_size", "aim"]


def test_it_is_of_the_real_table():
    assert PROVENANCE["table"] == CANONICAL_FINGERPRINT


def test_all_runs_are_in_it():
    trained = SETTINGS.drop_duplicates(["table", "optimizer", "batch_size", "learning_rate"])
    assert trained["runs"].sum() == PROVENANCE["runs"] == sum(call["runs"] for call in PROVENANCE["calls"])
    sizes = {(table, int(size)) for table, epochs in PROVENANCE["epochs_of_each_batch_size"].items() for size in epochs}
    assert set(trained[["table", "batch_size"]].itertuples(index=False, name=None)) == sizes


def test_a_share_of_the_runs_reached_or_failed_and_scores_lie_in_their_intervals():
    assert SETTINGS["reached"].between(0, 1).all() and (SETTINGS["failed"] <= SETTINGS["runs"]).all()
    assert ((SETTINGS["low"] <= SETTINGS["median"]) & (SETTINGS["median"] <= SETTINGS["high"])).all()
    # The median is finite where more than half of the runs reached what was asked.
    assert (np.isfinite(SETTINGS["median"]) == (SETTINGS["reached"] > 0.5))[SETTINGS["reached"] != 0.5].all()


def test_the_best_rate_of_each_aim_is_the_one_with_the_least_score():
    best = BEST.set_index(OF_AN_AIM).sort_index()
    tried = SETTINGS.groupby(OF_AN_AIM)
    assert set(best.index) == set(tried.groups)
    reached = best.dropna(subset="score")
    assert (np.isfinite(tried["median"].min()) == best["score"].notna()).all()
    for place, row in reached.iterrows():
        rates = tried.get_group(place).set_index("learning_rate")
        winner = rates.loc[rates["median"].idxmin()]
        assert row["grid_rate"] == winner.name, place
        assert tuple(row[["score", "score_low", "score_high", "reached"]]) == tuple(
            winner[["median", "low", "high", "reached"]]
        ), place
        assert row["on_edge"] == (winner.name == rates.index.max()) - int(winner.name == rates.index.min()), place
        assert row["rate_low"] <= row["rate"] <= row["rate_high"], place
