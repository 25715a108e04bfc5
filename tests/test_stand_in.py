"""The stand-in is reproducible, shaped like the real table, and not made from its rows."""

import itertools
import runpy
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from batchlab.table.ads import CANONICAL_FINGERPRINT, fingerprint, load_ads

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "data"
FEATURES = ["Age", "EstimatedSalary"]
# Measured on the real table: mean accuracy of the classifier below.
REAL_ACCURACY = 0.9075


@pytest.fixture(scope="module")
def stand_in():
    return load_ads(FOLDER / "stand_in.csv")


@pytest.fixture(scope="module")
def real(real_path):
    frame = load_ads(real_path)
    if fingerprint(frame) != CANONICAL_FINGERPRINT:
        pytest.skip("ADS_CSV names another table than the real one")
    return frame


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(FOLDER / "make_stand_in.py"))


def accuracy(frame):
    """Mean accuracy of an RBF classifier over ten shuffled, stratified folds."""
    folds = StratifiedKFold(10, shuffle=True, random_state=0)
    model = make_pipeline(StandardScaler(), SVC(kernel="rbf"))
    return cross_val_score(model, frame[FEATURES], frame["Purchased"], cv=folds).mean()


def test_script_reproduces_the_committed_bytes(script, tmp_path):
    script["write"](tmp_path / "made.csv")
    assert (tmp_path / "made.csv").read_bytes() == (FOLDER / "stand_in.csv").read_bytes()


def test_running_the_script_writes_beside_it(tmp_path):
    copy = tmp_path / "make_stand_in.py"
    copy.write_bytes((FOLDER / "make_stand_in.py").read_bytes())
    runpy.run_path(str(copy), run_name="__main__")
    assert (tmp_path / "stand_in.csv").read_bytes() == (FOLDER / "stand_in.csv").read_bytes()


def test_seed_matters(script):
    assert script["rows"](script["SEED"] + 1) != script["rows"]()


def test_documented_rows_are_in_their_places(stand_in):
    assert stand_in.head().to_numpy().tolist() == [
        [15624510, "Male", 19, 19000, 0],
        [15810944, "Male", 35, 20000, 0],
        [15668575, "Female", 26, 43000, 0],
        [15603246, "Female", 27, 57000, 0],
        [15804002, "Male", 19, 76000, 0],
    ]
    assert stand_in[FEATURES].tail().to_numpy().tolist() == [
        [46, 41000],
        [51, 23000],
        [50, 20000],
        [36, 33000],
        [49, 36000],
    ]


def test_schema_and_ranges(stand_in):
    assert len(stand_in) == 400
    assert stand_in["User ID"].is_unique
    assert stand_in["User ID"].between(10_000_000, 99_999_999).all()
    assert stand_in["Gender"].value_counts().between(160, 240).all()
    assert (stand_in["Age"].min(), stand_in["Age"].max()) == (18, 60)
    assert (stand_in["EstimatedSalary"].min(), stand_in["EstimatedSalary"].max()) == (15_000, 150_000)
    assert (stand_in["EstimatedSalary"] % 1000 == 0).all()


def test_buyers_and_majority_rates(stand_in):
    first, last = stand_in["Purchased"].iloc[:320], stand_in["Purchased"].iloc[320:]
    assert (first.sum(), last.sum()) == (92, 51)
    assert ((first == 0).mean(), (last == 0).mean()) == (0.7125, 0.3625)


# The real table's figures and the tolerances within which the stand-in has them.
MARGINALS = {
    "Age": {"mean": (37.655, 0.5), "std": (10.483, 0.7), "25%": (29.75, 1.5), "50%": (37, 1.5), "75%": (46, 1.5)},
    "EstimatedSalary": {
        "mean": (69_742.5, 2000),
        "std": (34_096.96, 2000),
        "25%": (43_000, 2500),
        "50%": (70_000, 2500),
        "75%": (88_000, 2500),
    },
}


@pytest.mark.parametrize("column", MARGINALS)
def test_marginals_are_near_the_real_ones(column, stand_in):
    measured = stand_in[column].describe()
    for statistic, (value, tolerance) in MARGINALS[column].items():
        assert abs(measured[statistic] - value) <= tolerance, statistic


@pytest.mark.parametrize("column", MARGINALS)
def test_stated_real_marginals_are_right(column, real):
    measured = real[column].describe()
    for statistic, (value, _) in MARGINALS[column].items():
        assert measured[statistic] == pytest.approx(value, abs=0.005), statistic


def test_last_rows_are_older_as_in_the_real_table(stand_in):
    # The real means are 35.59 and 45.90 years.
    assert stand_in["Age"].iloc[:320].mean() == pytest.approx(35.59, abs=1)
    assert stand_in["Age"].iloc[320:].mean() == pytest.approx(45.90, abs=1)


def test_buying_is_as_predictable_as_in_the_real_table(stand_in):
    assert accuracy(stand_in) == pytest.approx(REAL_ACCURACY, abs=0.03)
    shuffled = stand_in.assign(Purchased=np.random.default_rng(0).permutation(stand_in["Purchased"]))
    assert accuracy(shuffled) < 0.7  # the figure comes from age and salary, not from the counts


def test_stated_real_accuracy_is_right(real):
    assert accuracy(real) == pytest.approx(REAL_ACCURACY, abs=0.005)


def test_both_regions_buy(stand_in):
    rate = stand_in["Purchased"].groupby([stand_in["Age"] >= 48, stand_in["EstimatedSalary"] >= 92_000]).mean()
    assert rate[False, False] < 0.2  # the real rates: 0.11, then 0.83, 0.90 and 0.89
    assert min(rate[False, True], rate[True, False], rate[True, True]) > 0.6


def test_no_further_row_order_is_shared_with_the_real_table(stand_in, real):
    made, true = ([*map(tuple, f[[*FEATURES, "Purchased"]].to_numpy().tolist())] for f in (stand_in, real))
    own = range(5, 395)
    # Pairs are coarse (whole years, whole thousands), so single rows agree by chance; neighbours must not.
    assert sum(made[i] == true[i] for i in own) <= 3
    neighbours = {*itertools.pairwise(true)}
    assert not [i for i in own[:-1] if (made[i], made[i + 1]) in neighbours]
    identified = stand_in["User ID"].iloc[5:].isin(real["User ID"])
    assert identified.sum() <= 3


def test_script_reads_no_table():
    text = (FOLDER / "make_stand_in.py").read_text()
    assert not [word for word in ("read_csv", "reader(", "loadtxt", "genfromtxt", "ADS_CSV") if word in text]
    assert text.count("open(") == 1  # the one that writes


def test_card_states_the_measured_figures(stand_in):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for figure in (
        CANONICAL_FINGERPRINT,
        fingerprint(stand_in),
        f"{stand_in['Age'].mean():.2f}",
        f"{stand_in['EstimatedSalary'].mean():,.0f}",
        f"{accuracy(stand_in):.4f}",
        f"{REAL_ACCURACY:.4f}",
        "0.7125",
        "0.3625",
    ):
        assert figure in card
