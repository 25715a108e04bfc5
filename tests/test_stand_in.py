"""The stand-in is reproducible, shaped like the real table, and not made from its rows."""

import itertools
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from test_notebooks import NOTEBOOKS

from batchlab.table.ads import CANONICAL_FINGERPRINT, fingerprint, load_ads

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "data"
FEATURES = ["Age", "EstimatedSalary"]
# The real table's figures, by the rows of the card's table. Where the real table is, they are held against it; where it
# is not, the card and the notebooks' stored outputs are held against them.
REAL = {
    "age": (37.655, 10.482877),
    "age's quartiles": (29.75, 37, 46),
    "salary": (69_742.5, 34_096.960282),
    "salary's quartiles": (43_000, 70_000, 88_000),
    "correlation": (0.155238,),
    "mean ages of both parts": (35.59375, 45.9),
    "buyers in both parts": (92, 51),
    "repetitions": (35,),
    "accuracy of a classifier": (0.9075,),
}
RANGES = {"Age": (18, 60), "EstimatedSalary": (15_000, 150_000), "Purchased": (0, 1)}


@pytest.fixture(scope="module")
def stand_in():
    return load_ads(FOLDER / "stand_in.csv")


@pytest.fixture(scope="module")
def own_figures(stand_in):
    return measured(stand_in)


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


def measured(frame) -> dict[str, tuple[float, ...]]:
    """What `REAL` holds, of any table."""
    parts = frame.iloc[:320], frame.iloc[320:]
    return {
        **{
            name + what: tuple(values)
            for name, column in (("age", frame["Age"]), ("salary", frame["EstimatedSalary"]))
            for what, values in (
                ("", (column.mean(), column.std())),
                ("'s quartiles", column.quantile([0.25, 0.5, 0.75])),
            )
        },
        "correlation": (frame["Age"].corr(frame["EstimatedSalary"]),),
        "mean ages of both parts": tuple(part["Age"].mean() for part in parts),
        "buyers in both parts": tuple(part["Purchased"].sum() for part in parts),
        "repetitions": (frame.duplicated(FEATURES).sum(),),
        "accuracy of a classifier": (accuracy(frame),),
    }


def written(cell: str) -> list[tuple[float, float]]:
    """The numbers in a cell of the card, each with half of its last digit."""
    found = re.findall(r"\d[\d,]*(?:[.]\d+)?", cell)
    return [(float(n.replace(",", "")), 0.5 * 10 ** -len(n.partition(".")[2])) for n in found]


def assert_written(cell: str, figures) -> None:
    for (number, half), figure in zip(written(cell), figures, strict=True):
        assert abs(number - figure) <= half + 1e-9, (cell, figure)


def tables_of_the_card() -> list[list[list[str]]]:
    """The tables of the card, as rows of cells, without their heads."""
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE)
    return [[line.split("|")[1:-1] for line in block.splitlines()[2:]] for block in blocks]


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


# How far the stand-in's figures may be from the real ones.
NEAR = {
    "age": (0.5, 0.7),
    "age's quartiles": (1.5, 1.5, 1.5),
    "salary": (2000, 2000),
    "salary's quartiles": (2500, 2500, 2500),
    "correlation": (0.1,),
    "mean ages of both parts": (1, 1),
    "buyers in both parts": (0, 0),
    "repetitions": (10,),
    "accuracy of a classifier": (0.03,),
}


@pytest.mark.parametrize("name", REAL)
def test_the_stand_in_is_near_the_real_table(name, own_figures):
    for found, real, near in zip(own_figures[name], REAL[name], NEAR[name], strict=True):
        assert abs(found - real) <= near


def test_stated_real_figures_are_right(real):
    found = measured(real)
    assert found.keys() == REAL.keys()
    for name, values in REAL.items():
        assert found[name] == pytest.approx(values, rel=1e-6), name
    for column, ends in RANGES.items():
        assert (real[column].min(), real[column].max()) == ends


def test_buying_is_predictable_from_age_and_salary(stand_in):
    shuffled = stand_in.assign(Purchased=np.random.default_rng(0).permutation(stand_in["Purchased"]))
    assert accuracy(shuffled) < 0.7 < accuracy(stand_in)  # the figure comes from both, not from the counts


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


RUN_WATCHED = """
import runpy, sys
opened = []
sys.addaudithook(lambda event, found: event == "open" and opened.append((str(found[0]), found[1])))
runpy.run_path(sys.argv[1], run_name="__main__")
print(*(path for path, mode in opened if path.endswith(".csv") and "w" not in (mode or "r")), sep="\\n")
"""


def tables_read_by(script: Path) -> list[str]:
    """The names of the tables that a script opens for reading, where the stand-in is what every search would find."""
    environment = os.environ | {"ADS_CSV": str(FOLDER / "stand_in.csv")}
    command = [sys.executable, "-c", RUN_WATCHED, str(script)]
    ran = subprocess.run(command, cwd=script.parent, env=environment, capture_output=True, text=True, check=True)
    return [Path(line).name for line in ran.stdout.splitlines() if line]


def test_the_script_reads_no_table(tmp_path):
    script = tmp_path / "make_stand_in.py"
    text = (FOLDER / "make_stand_in.py").read_text(encoding="utf-8")
    script.write_text(text, encoding="utf-8")
    assert tables_read_by(script) == []
    reading = "import os\nimport numpy as np\nnp.loadtxt(os.environ['ADS_CSV'], dtype=str, delimiter=',')\n"
    script.write_text(text + reading, encoding="utf-8")
    assert tables_read_by(script) == ["stand_in.csv"]


# --- what is written of both tables ------------------------------------------------------------------


def test_the_card_names_both_fingerprints(stand_in):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\b[0-9a-f]{64}\b", card) == [CANONICAL_FINGERPRINT, fingerprint(stand_in)]


def test_the_card_states_the_figures_of_both_tables(own_figures):
    (compared,) = [table for table in tables_of_the_card() if len(table) == len(REAL) and len(table[0]) == 3]
    for (_, real_cell, own_cell), name in zip(compared, REAL, strict=True):
        assert_written(real_cell, REAL[name])
        assert_written(own_cell, own_figures[name])


def test_the_card_states_what_the_parts_are():
    (parts,) = [table for table in tables_of_the_card() if len(table[0]) == 6]
    (buyers, later), (age, later_age) = REAL["buyers in both parts"], REAL["mean ages of both parts"]
    expected = [(320, buyers, age), (80, later, later_age), (400, buyers + later, REAL["age"][0])]
    for cells, (people, bought, mean_age) in zip(parts, expected, strict=True):
        assert_written(" ".join(cells[1:]), (people, bought, 100 * bought / people, 1 - bought / people, mean_age))


def test_stored_summaries_of_the_table_are_of_the_real_one():
    share = sum(REAL["buyers in both parts"]) / 400
    ages, salaries = REAL["age's quartiles"], REAL["salary's quartiles"]
    known = {
        "count": (400, 400, 400),
        "mean": (REAL["age"][0], REAL["salary"][0], share),
        "std": (REAL["age"][1], REAL["salary"][1], (share * (1 - share) * 400 / 399) ** 0.5),
        "min": [low for low, _ in RANGES.values()],
        **dict(zip(("25%", "50%", "75%"), zip(ages, salaries, (0, 0, 1), strict=True), strict=True)),
        "max": [high for _, high in RANGES.values()],
    }
    found = 0
    for path in NOTEBOOKS:
        outputs = [o for cell in nbformat.read(path, as_version=4).cells for o in cell.get("outputs", [])]
        for html in (o.data["text/html"] for o in outputs if "text/html" in o.get("data", {})):
            for table in BeautifulSoup(html, "html.parser").find_all("table"):
                heads = [head.get_text() for head in table.find_all("th")]
                if [*RANGES] == [head for head in heads if head in RANGES] and "mean" in heads:
                    found += 1
                    for line in table.tbody.find_all("tr"):
                        assert_written(" ".join(td.get_text() for td in line.find_all("td")), known[line.th.get_text()])
    assert found  # `00_start_here` begins with one
