"""A table of one's own: what is read, what is refused and with which words, what is warned of, how it is encoded."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import sklearn.datasets
from sklearn.model_selection import train_test_split

from batchlab.table import encoding
from batchlab.table.encoding import split_and_encode
from batchlab.table.own import MISSING_WORDS, read_table
from batchlab.table.scaling import split_and_scale
from batchlab.table.schema import DataError

ROWS = 120
DRAW = np.random.default_rng(0)
HEIGHT = DRAW.normal(170, 10, ROWS).round(2)
GOOD = pd.DataFrame(
    {
        "height": HEIGHT,
        "town": DRAW.choice(["Bonn", "Graz", "Lyon"], ROWS),
        "bought": np.where(HEIGHT + DRAW.normal(0, 8, ROWS) > 170, "yes", "no"),
    }
)


@pytest.fixture
def kept(tmp_path):
    """Write a frame or a text, and return the path."""

    def write(table, name="table.csv"):
        path = tmp_path / name
        if isinstance(table, str | bytes):
            path.write_bytes(table if isinstance(table, bytes) else table.encode())
        elif name.endswith(".parquet"):
            table.to_parquet(path, index=False)
        else:
            table.to_csv(path, index=False)
        return path

    return write


# --- what is read --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["table.csv", "table.parquet", "TABLE.CSV"])
def test_numbers_and_categories_are_told_apart(kept, name):
    table = read_table(kept(GOOD, name), "bought")
    assert table.columns.set_index("column")["cells"].to_dict() == {
        "height": "numbers",
        "town": "categories",
        "bought": "categories",
    }
    np.testing.assert_allclose(table.features["height"], HEIGHT)
    assert table.features["town"].tolist() == GOOD["town"].tolist()
    assert (table.kind, table.classes, table.warnings) == ("classes", ["no", "yes"], [])


@pytest.mark.parametrize(
    ("values", "kind", "classes"),
    [
        (np.arange(ROWS) % 2, "classes", ["0", "1"]),
        (np.where(np.arange(ROWS) % 2, 1.5, -0.5), "classes", ["-0.5", "1.5"]),
        (np.arange(ROWS) % 12, "classes", [str(number) for number in range(12)]),  # 10 after 9, not after 1
        (np.arange(ROWS) % 21, "numeric", []),
        (HEIGHT, "numeric", []),
        (np.array(["a", "b", "c"])[np.arange(ROWS) % 3], "classes", ["a", "b", "c"]),
        (np.arange(ROWS) % 2 == 0, "classes", ["False", "True"]),
    ],
)
@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_the_kind_of_the_target_is_guessed(kept, name, values, kind, classes):
    table = read_table(kept(GOOD.assign(bought=values), name), "bought")
    assert (table.kind, table.classes) == (kind, classes)


def test_a_guess_that_may_be_wrong_is_said_and_can_be_set_right(kept):
    path = kept(GOOD.assign(bought=np.arange(ROWS) % 5))
    assert 'kind="numeric"' in read_table(path, "bought").warnings[-1]
    assert read_table(path, "bought", kind="numeric").kind == "numeric"


def test_text_among_numbers_makes_categories_with_a_note(kept):
    mixed = GOOD["height"].round(-1).astype(str)
    mixed[[3, 7]] = "tall", "<b>tall</b>"
    columns = read_table(kept(GOOD.assign(height=mixed)), "bought").columns.set_index("column")
    assert columns.loc["height", "cells"] == "categories"
    note = f"taken for categories: {ROWS - 2} cells are numbers, but 2 are not, such as 'tall'"
    assert columns.loc["height", "note"] == note


def test_harmless_variants_are_read(kept):
    plain = read_table(kept(GOOD), "bought")
    text = GOOD.to_csv(index=False, lineterminator="\r\n").replace(",", " , ")
    varied = read_table(kept(b"\xef\xbb\xbf" + text.encode() + b"\r\n\r\n"), "bought")
    pd.testing.assert_frame_equal(plain.features, varied.features)
    assert varied.target.tolist() == plain.target.tolist()


def test_columns_can_be_left_out(kept):
    table = read_table(kept(GOOD.assign(name=range(ROWS))), "bought", drop=["name"])
    assert list(table.features) == ["height", "town"] and table.warnings == []


# --- missing cells -------------------------------------------------------------------------------------


def holes():
    frame = GOOD.copy()
    frame.loc[[1, 5, 6], "height"] = np.nan
    frame.loc[[5, 9], "town"] = None
    return frame


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_missing_cells_are_refused_with_columns_counts_and_choices(kept, name):
    with pytest.raises(DataError) as refusal:
        read_table(kept(holes(), name), "bought")
    for part in ("'height' (3 of 120)", "'town' (2 of 120)", 'missing="drop rows"', 'missing="impute"'):
        assert part in str(refusal.value)


@pytest.mark.parametrize("word", [*MISSING_WORDS, "NaN", " NULL "])
def test_words_for_nothing_count_as_missing(kept, word):
    with pytest.raises(DataError, match=r"'town' \(1 of 120\)"):
        read_table(kept(GOOD.assign(town=GOOD["town"].where(GOOD.index != 4, word))), "bought")


def test_rows_are_dropped_if_asked(kept):
    table = read_table(kept(holes()), "bought", missing="drop rows")
    assert len(table.features) == len(table.target) == ROWS - 4 and table.rows_read == ROWS
    assert table.columns.set_index("column")["missing"].to_dict() == {"height": 3, "town": 2, "bought": 0}
    assert table.target.tolist() == GOOD["bought"].drop([1, 5, 6, 9]).tolist()


def test_imputing_fills_in_what_the_training_rows_say(kept):
    table = read_table(kept(holes()), "bought", missing="impute")
    encoded = split_and_encode(table)
    assert table.features.isna().sum().sum() == 5
    assert np.isfinite(encoded.x).all() and np.isfinite(encoded.held_out[0]).all()
    assert encoded.names == ["height", "town_(missing)", "town_Bonn", "town_Graz", "town_Lyon"]


def test_a_missing_target_is_never_filled_in(kept):
    path = kept(GOOD.assign(bought=GOOD["bought"].where(GOOD.index > 2, "")))
    for missing in ("refuse", "impute"):
        with pytest.raises(DataError, match=r"'bought' \(3 of 120\).*a target is never filled in"):
            read_table(path, "bought", missing=missing)
    assert len(read_table(path, "bought", missing="drop rows").target) == ROWS - 3


# --- what is refused -----------------------------------------------------------------------------------


def repeated(name, times):
    return GOOD.assign(bought=[*[name] * times, *GOOD["bought"][times:]])


REFUSED = {
    "constant target": (GOOD.assign(bought="yes"), "column bought: every row is 'yes', so there is nothing to learn"),
    "constant numeric target": (GOOD.assign(bought=1.5), "every row is '1.5'"),
    "target absent": (GOOD.rename(columns={"bought": "bougth"}), "no column 'bought'; did you mean 'bougth'"),
    "one row a class": (repeated("maybe", 1), r"1 of 3 classes have one row alone \('maybe'\)"),
    "every row a class": (GOOD.assign(bought=[f"c{i}" for i in range(ROWS)]), "120 of 120 classes have one row alone"),
    "too many classes": (GOOD.assign(bought=[f"c{i // 2}" for i in range(ROWS)]), "60 classes are too many"),
    "names of rows": (GOOD.assign(name=[f"customer {i}" for i in range(ROWS)]), "column name: 120 categories in 120"),
    "no rows": (GOOD[:0], "a header, and no rows"),
    "few rows": (GOOD[:19], "only 19 rows"),
    "no column but the target": (GOOD[["bought"]], "no column but the target"),
    "infinite": (GOOD.assign(height=GOOD["height"].where(GOOD.index > 0, np.inf)), "column height: 1 cells are inf"),
    "an empty column": (GOOD.assign(empty=""), "no cell is filled in 'empty'"),
    "twice the same name": ("a,b,a,bought\n" + "1,2,3,yes\n" * 30, "several columns have the same name: 'a'"),
    "no name": ("a,,bought\n" + "1,2,yes\n" * 30, "column 2 has no name"),
    "empty file": ("", "the file is empty"),
    "semicolons": (GOOD.to_csv(index=False, sep=";"), "separated by ';'"),
    "a field too many": ("a,bought\n" + "1,yes\n" * 30 + "1,yes,3\n", "is not valid CSV"),
    "all fields too many": ("a,bought\n" + "1,yes,3\n" * 30, "is not valid CSV"),
    "an open quotation": ("a,bought\n" + "1,yes\n" * 30 + '"1,yes\n', "is not valid CSV"),
    "another encoding": ("größe,bought\n".encode("latin-1"), "is not UTF-8 text"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_cannot_be_used_is_refused(kept, case):
    table, words = REFUSED[case]
    with pytest.raises(DataError, match=words) as refusal:
        read_table(kept(table), "bought")
    assert str(refusal.value).startswith("table.csv") and "Mend: " in str(refusal.value)


def test_all_that_is_wrong_with_the_columns_is_said_at_once(kept):
    frame = holes().assign(
        name=[f"customer {i}" for i in range(ROWS)],
        size=GOOD["height"].where(GOOD.index > 0, np.inf),
        bought=[*["maybe"], *GOOD["bought"][1:-1], ""],
    )
    with pytest.raises(DataError) as refusal:
        read_table(kept(frame), "bought")
    assert [line.split(":")[0] for line in str(refusal.value).splitlines()] == [
        "table.csv, column size",
        "table.csv",
        "table.csv, column bought",
        "table.csv, column name",
    ]
    for part in ("1 cells are inf", "'height' (3 of 120)", "'bought' (1 of 120)", "('maybe')", "119 categories in 119"):
        assert part in str(refusal.value)
    assert str(refusal.value).count("Mend: ") == 4


@pytest.mark.parametrize("missing", ["refuse", "impute", "drop rows"])
def test_a_target_that_cannot_be_read_is_said_alone(kept, missing):
    frame = GOOD[["height"]].assign(price=GOOD["height"].where(GOOD.index > 0, np.inf))
    with pytest.raises(DataError) as refusal:
        read_table(kept(frame), "price", missing=missing)
    assert str(refusal.value) == "table.csv, column price: 1 cells are infinite. Mend: correct them."


def test_a_category_that_some_rows_lack_is_no_constant(kept):
    table = read_table(kept(GOOD.assign(note=np.where(GOOD.index % 3 == 0, "seen", ""))), "bought", missing="impute")
    assert table.warnings == [] and split_and_encode(table).names[-2:] == ["note_(missing)", "note_seen"]


def test_ten_thousand_categories_are_refused(kept):
    rows = 25_000
    frame = pd.DataFrame({"code": [f"k{i % 10_000}" for i in range(rows)], "bought": np.arange(rows) % 2})
    with pytest.raises(DataError, match="column code: 10,000 categories, each of which would be a feature; 1,000 are"):
        read_table(kept(frame), "bought")


def test_numbers_that_became_categories_by_one_cell_say_so_when_refused(kept):
    with pytest.raises(DataError, match=r"column height: 1.. categories .* 119 cells are numbers, but 1 are not, such"):
        read_table(kept(GOOD.assign(height=GOOD["height"].astype(str).where(GOOD.index > 0, "unknown"))), "bought")


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_a_table_larger_than_memory_is_refused_before_it_is_read(kept, name, monkeypatch):
    large = pd.concat([GOOD] * 300, ignore_index=True)
    path = kept(large, name)
    needed = 3 * read_bytes(large, name)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100_000))
    if name.endswith(".csv"):  # all of it is never asked for
        whole = pd.read_csv
        monkeypatch.setattr(pd, "read_csv", lambda *args, nrows, **options: whole(*args, nrows=nrows, **options))
    with pytest.raises(DataError, match=r"bytes of memory .*, and 100,000 are available") as refusal:
        read_table(path, "bought")
    said = int(str(refusal.value).split(" need about ")[1].split(" bytes")[0].replace(",", ""))
    assert said == pytest.approx(needed, rel=0.1)
    rows = int(str(refusal.value).split("some ")[1].split(" rows")[0].replace(",", ""))
    assert rows == pytest.approx(len(large), rel=0.05)


def read_bytes(frame, name):
    """What a frame takes as it is first read: a CSV file's cells as text."""
    text = frame.astype(str).astype("str") if name.endswith(".csv") else frame
    return text.memory_usage(deep=True, index=False).sum()


def test_a_parquet_column_of_dates_is_refused(kept):
    dates = pd.date_range("2026-01-01", periods=ROWS)
    with pytest.raises(DataError, match=r"column day: it holds datetime64.*leave the column out"):
        read_table(kept(GOOD.assign(day=dates), "table.parquet"), "bought")


def test_other_files_are_refused(kept, tmp_path):
    with pytest.raises(DataError, match=r"neither in .csv nor in .parquet"):
        read_table(kept("x", "table.xlsx"), "bought")
    with pytest.raises(DataError, match="there is no such file"):
        read_table(tmp_path / "none.csv", "bought")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(kept("x", "table.parquet"), "bought")


def test_a_choice_that_there_is_not_is_refused(kept):
    with pytest.raises(ValueError, match="'guess' is no choice; there are 'refuse', 'drop rows', 'impute'"):
        read_table(kept(GOOD), "bought", missing="guess")
    with pytest.raises(DataError, match="'bought' is among the columns to leave out"):
        read_table(kept(GOOD), "bought", drop=["bought"])


# --- what is warned of ---------------------------------------------------------------------------------

NUMBERS = HEIGHT * 2.5 - 3
LEAKS = {
    "the classes by other names": (GOOD["bought"], GOOD["bought"].map({"yes": "sold", "no": "-"})),
    "the classes as numbers": (GOOD["bought"], GOOD["bought"].map({"yes": 7, "no": -2})),
    "a number that parts them": (GOOD["bought"], (GOOD["bought"] == "yes") + DRAW.uniform(0, 0.9, ROWS)),
    "a number in another unit": (NUMBERS, 2.54 * NUMBERS),
    "its logarithm": (NUMBERS, np.log(NUMBERS)),
    "its negative, nearly": (NUMBERS, -NUMBERS + DRAW.normal(0, 0.1, ROWS)),
    "three classes": (np.arange(ROWS) % 3, np.array(["x", "y", "z"])[np.arange(ROWS) % 3]),
}


@pytest.mark.parametrize("case", LEAKS)
def test_a_copy_of_the_target_is_warned_of(kept, case):
    target, copy = LEAKS[case]
    table = read_table(kept(GOOD.assign(bought=target, copy=copy)[["copy", "town", "bought"]]), "bought")
    assert table.warnings[0].startswith("Column 'copy' alone gives the target away")
    assert "town" not in " ".join(table.warnings)


def test_honest_features_are_not_suspected(kept):
    related = GOOD.assign(guess=np.where(DRAW.random(ROWS) < 0.9, GOOD["bought"], "no"), height=NUMBERS)
    assert read_table(kept(related), "bought").warnings == []
    noisy = GOOD.assign(bought=NUMBERS, height=NUMBERS + DRAW.normal(0, 5, ROWS))
    assert read_table(kept(noisy), "bought").warnings == []


def test_a_column_that_counts_the_rows_is_warned_of(kept):
    assert "Column 'id' counts the rows" in read_table(kept(GOOD.assign(id=range(7, 7 + ROWS))), "bought").warnings[0]


# --- how it is encoded ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits"])
def test_bundled_tables_come_out_as_split_and_scale_makes_them(kept, name):
    bundled = getattr(sklearn.datasets, f"load_{name}")(as_frame=True)
    encoded = split_and_encode(read_table(kept(bundled.frame), "target"))
    plain = split_and_scale(bundled.data.to_numpy(), bundled.target.to_numpy())
    np.testing.assert_allclose(encoded.x, plain.x, atol=1e-5)
    np.testing.assert_allclose(encoded.held_out[0], plain.held_out[0], atol=1e-5)
    np.testing.assert_array_equal(encoded.y, plain.y)


def test_a_numeric_target_is_standardised_by_the_training_rows(kept):
    encoded = split_and_encode(read_table(kept(GOOD.assign(bought=NUMBERS)), "bought"))
    assert encoded.classes is None and encoded.y.dtype == np.float32
    assert encoded.y.mean() == pytest.approx(0, abs=1e-5) and encoded.y.std() == pytest.approx(1, rel=1e-4)
    assert abs(encoded.held_out[1].mean()) > 1e-3
    everything = np.concatenate([encoded.y, encoded.held_out[1]])
    assert everything.std() * encoded.scale == pytest.approx(NUMBERS.std(), rel=1e-4)


def test_held_out_rows_decide_nothing(kept):
    """Whatever the held-out rows hold, the training part comes out the same."""
    changed = GOOD.copy()
    before = split_and_encode(read_table(kept(GOOD), "bought"))
    _, held_out = train_test_split(GOOD.index, test_size=0.2, stratify=GOOD["bought"], random_state=0)
    changed.loc[held_out, ["height", "town"]] = 1e6, "Oslo"
    after = split_and_encode(read_table(kept(changed), "bought"))
    np.testing.assert_array_equal(before.x, after.x)
    assert after.names == before.names and (after.held_out[0][:, 0] > 1e4).all()
    assert (after.held_out[0][:, 1:] == 0).all()  # a town that no training row has


def test_a_large_table_is_studied_in_part(kept, monkeypatch):
    monkeypatch.setattr(encoding, "MOST_ROWS", 100)
    encoded = split_and_encode(read_table(kept(GOOD), "bought"))
    assert (len(encoded.y), len(encoded.held_out[1]), encoded.rows_left_out) == (80, 20, 20)
    assert encoded.y.mean() == pytest.approx((GOOD["bought"] == "yes").mean(), abs=0.02)


def test_constant_features_become_zero_with_a_note_and_a_warning(kept):
    table = read_table(kept(GOOD.assign(same=3)), "bought")
    assert table.warnings == ["Constant, so that they say nothing: 'same'."]
    assert table.columns.set_index("column").loc["same", "note"] == "constant: it says nothing"
    assert (split_and_encode(table).x[:, 1] == 0).all()


def test_numbers_beyond_all_scale_are_refused(kept):
    with pytest.raises(DataError, match="column height: its numbers are too large to be scaled"):
        split_and_encode(read_table(kept(GOOD.assign(height=GOOD["height"] * 1e305)), "bought"))


def test_a_few_filled_cells_give_nothing_away(kept):
    rare = GOOD.assign(rare=np.where(GOOD.index < 6, (GOOD["bought"] == "yes") * 1.0, np.nan))
    assert read_table(kept(rare), "bought", missing="impute").warnings == []
