"""Every harmless variant of the table is read alike; every broken one is refused with place and mend."""

import os
import pickle
import sys
from pathlib import Path

import pandas as pd
import pytest

from batchlab.table import ads
from batchlab.table.ads import CANONICAL_FINGERPRINT, COLUMNS, fingerprint, load_ads
from batchlab.table.schema import DataError

ROOT = Path(__file__).resolve().parents[1]
STAND_IN = ROOT / "data" / "stand_in.csv"
TEXT = STAND_IN.read_text(encoding="utf-8")
LINES = TEXT.splitlines()
HEADER = LINES[0]


@pytest.fixture(autouse=True)
def plain_surroundings(monkeypatch):
    monkeypatch.delenv("ADS_CSV", raising=False)
    monkeypatch.setenv("BATCHLAB_OFFLINE", "1")


def table(*changes, lines=LINES):
    """The stand-in's text with line i (as an editor counts, the header is 1) replaced by a new text."""
    lines = list(lines)
    for line, text in changes:
        lines[line - 1] = text
    return "\n".join(lines) + "\n"


def column_changed(function):
    """The stand-in's text with every row's list of cells passed through a function."""
    return "\n".join(",".join(function(line.split(","))) for line in LINES) + "\n"


def with_index(header):
    return "\n".join([header + HEADER, *(f"{i},{line}" for i, line in enumerate(LINES[1:]))]) + "\n"


# --- variants ---------------------------------------------------------------------------------------

VARIANTS = {
    "as it is": TEXT,
    "no line end at the end": TEXT.rstrip("\n"),
    "CRLF": TEXT.replace("\n", "\r\n"),
    "CR alone": TEXT.replace("\n", "\r"),
    "CR CRLF": TEXT.replace("\n", "\r\r\n"),
    "byte order mark": "\ufeff" + TEXT,
    "byte order mark and CRLF": "\ufeff" + TEXT.replace("\n", "\r\n"),
    "unnamed index column": with_index(","),
    "named index column": with_index("Unnamed: 0,"),
    "blank row between all others": TEXT.replace("\n", "\n\n"),
    "blank rows first": "\n \n" + TEXT,
    "46.0 for 46": column_changed(lambda c: [*c[:2], *(x if x.isalpha() else x + ".0" for x in c[2:])]),
    "other column order": column_changed(lambda c: [c[4], c[2], c[0], c[3], c[1]]),
    "extra column": column_changed(lambda c: [*c, "City" if c[0] == "User ID" else "Bonn"]),
    "extra empty columns": column_changed(lambda c: [*c, "", ""]),
    "UserID": TEXT.replace("User ID", "UserID"),
    "spaces around names and cells": column_changed(lambda c: [f"  {x} " for x in c]),
    "quoted cells": column_changed(lambda c: [f'"{x}"' for x in c]),
    "quoted cells after a space": column_changed(lambda c: [c[0], *(f' "{x}"' for x in c[1:])]),
    "blank rows of commas": TEXT.replace("\n", "\n,,,,\n"),
    "blank rows of commas first": ",,,,\n , ,,,\n" + TEXT,
    "blank rows of commas and quotes": TEXT.replace("\n", '\n"", ,"","",\n'),
    "4.6e1 for 46": column_changed(lambda c: [*c[:2], *(x if x.isalpha() else f"+{x}0e-1" for x in c[2:])]),
    "a line end inside a cell": column_changed(lambda c: [*c, "Note" if c[0] == "User ID" else '"a\nb"']),
}


@pytest.mark.parametrize("text", VARIANTS.values(), ids=VARIANTS.keys())
def test_variant_is_read_like_the_plain_table(text, tmp_path):
    plain = load_ads(STAND_IN)
    file = tmp_path / "variant.csv"
    file.write_bytes(text.encode())
    frame = load_ads(file)
    pd.testing.assert_frame_equal(frame, plain)
    assert fingerprint(frame) == fingerprint(plain)


def test_columns_dtypes_and_index():
    frame = load_ads(STAND_IN)
    assert tuple(frame.columns) == COLUMNS
    assert [str(frame[c].dtype) for c in COLUMNS if c != "Gender"] == ["int64"] * 4
    assert set(frame["Gender"]) == {"Male", "Female"}
    assert frame.index.equals(pd.RangeIndex(400))
    assert frame.iloc[0].tolist() == [15624510, "Male", 19, 19000, 0]


@pytest.mark.parametrize(
    ("kept", "columns"),
    [((2, 3, 4), COLUMNS[2:]), ((4, 3, 2), COLUMNS[2:]), ((1, 2, 3, 4), COLUMNS[1:])],
    ids=["three columns", "three in reverse", "no user id"],
)
def test_absent_columns_are_not_invented(kept, columns, tmp_path):
    file = tmp_path / "few.csv"
    file.write_text(column_changed(lambda c: [c[i] for i in kept]))
    frame = load_ads(file)
    assert tuple(frame.columns) == columns
    assert fingerprint(frame) == fingerprint(load_ads(STAND_IN))


def calls_to_read(rows, folder):
    """How many functions are called, in Python and from it, to read a table of so many times 400 rows."""
    file = folder / "long.csv"
    file.write_text(HEADER + "\n" + "\n".join(LINES[1:] * rows) + "\n")
    calls, before = 0, sys.getprofile()

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        assert len(load_ads(file)) == 400 * rows
    finally:
        sys.setprofile(before)
    return calls


def test_the_work_is_in_proportion_to_the_rows(tmp_path):
    load_ads(STAND_IN)  # what is imported at first use is no work on a table
    small, *larger = (calls_to_read(rows, tmp_path) for rows in (1, 11, 21))
    of_ten, of_ten_more = larger[0] - small, larger[1] - larger[0]
    assert of_ten_more == pytest.approx(of_ten, rel=0.05)
    assert of_ten / 4000 < 50  # calls a row; 23 where this was written, 1.1 s for 200,000 rows
    assert small < 200_000  # 40,000 where this was written, 6 ms


# --- refusals: bytes, then fragments of the message -----------------------------------------------------


def row(line, **cells):
    """The cells of one line of the stand-in, some replaced."""
    old = dict(zip(COLUMNS, LINES[line - 1].split(","), strict=True))
    return ",".join({**old, **cells}.values())


def cell(line, column, value):
    return table((line, row(line, **{column: value})))


AGE, SALARY = "Age", "EstimatedSalary"
REFUSALS = {
    # cells
    "missing age": (cell(7, AGE, ""), "row 7, column Age: '' is missing"),
    "missing age, NaN": (cell(7, AGE, "NaN"), "row 7, column Age: 'NaN' is missing"),
    "missing salary": (cell(401, SALARY, " "), "row 401, column EstimatedSalary: '' is missing"),
    "missing gender": (cell(3, "Gender", ""), "row 3, column Gender: '' is missing"),
    "missing user id": (cell(3, "User ID", "null"), "row 3, column User ID: 'null' is missing"),
    "missing target": (cell(400, "Purchased", ""), "row 400, column Purchased: '' is missing"),
    "row with one cell": (table((9, ",,,,1")), "row 9, column User ID: '' is missing"),
    "after rows of commas": (cell(7, AGE, "x").replace("\n", "\n,,,,\n", 3), "row 10, column Age: 'x' is not a number"),
    "header after rows of commas": (",,,,\n\n" + TEXT.replace("Age", "Years"), "row 3: no column Age; found"),
    "tabs after rows of commas": (",,\n" + TEXT.replace(",", "\t"), "row 2: fields are separated by tabs", "commas"),
    "word for a number": (cell(2, AGE, "forty"), "row 2, column Age: 'forty' is not a number", "whole number"),
    "thousands separator": (cell(5, SALARY, '"15,000"'), "row 5, column EstimatedSalary: '15,000' is not"),
    "true for a number": (cell(5, AGE, "True"), "row 5, column Age: 'True' is not a number"),
    "fraction": (cell(12, AGE, "46.5"), "row 12, column Age: '46.5' is not a whole number"),
    "negative": (cell(12, SALARY, "-15000"), "row 12, column EstimatedSalary: '-15000' is negative"),
    "infinite": (cell(12, SALARY, "inf"), "row 12, column EstimatedSalary: 'inf' is infinite"),
    "minus infinite": (cell(12, AGE, "-Infinity"), "row 12, column Age: '-Infinity' is infinite"),
    "beyond a float": (cell(12, AGE, "1e999"), "row 12, column Age: '1e999' is implausibly large"),
    "beyond a decimal": (cell(12, AGE, "1e9" + "9" * 30), "row 12, column Age: '1e9", "is implausibly large"),
    "a float's 0": (cell(12, AGE, "1e-400"), "row 12, column Age: '1e-400' is not a whole number"),
    "a decimal's 0": (cell(12, AGE, "1e-9" + "9" * 30), "row 12, column Age: '1e-9", "is not a whole number"),
    "a float's 19": (
        cell(12, AGE, "18.99999999999999999999"),
        "row 12, column Age: '18.99999999999999999999' is not a whole number",
    ),
    "a float's -0": (cell(12, AGE, "-1e-400"), "row 12, column Age: '-1e-400' is negative"),
    "a float's 1": (cell(12, "Purchased", "0.99999999999999999999"), "row 12, column Purchased", "is neither 0 nor 1"),
    "a million digits": (
        cell(12, SALARY, "9" * 100_000),
        "row 12, column EstimatedSalary: '999",
        "is implausibly large",
    ),
    "a binary number": (cell(12, AGE, "0b11"), "row 12, column Age: '0b11' is not a number"),
    "an underscore": (cell(12, AGE, "4_6"), "row 12, column Age: '4_6' is not a number"),
    "digits of another script": (cell(12, AGE, "\u0664\u0666"), "row 12, column Age: ", "is not a number"),
    "beyond int64": (cell(12, SALARY, "9" * 19), "row 12, column EstimatedSalary: '9999999999999999999' is impl"),
    "far beyond int64": (cell(12, "User ID", "9" * 30), "row 12, column User ID", "implausibly large"),
    "2 to the 53": (cell(12, "User ID", str(2**53)), "row 12, column User ID", "implausibly large"),
    "target 2": (cell(12, "Purchased", "2"), "row 12, column Purchased: '2' is neither 0 nor 1", "write 1 for bought"),
    "target -1": (cell(12, "Purchased", "-1"), "row 12, column Purchased: '-1' is neither 0 nor 1"),
    "target 0.5": (cell(12, "Purchased", "0.5"), "row 12, column Purchased: '0.5' is neither 0 nor 1"),
    "target in words": (
        column_changed(lambda c: [*c[:4], {"0": "Not Purchased"}.get(c[4], c[4])]),
        "row 2, column Purchased: 'Not Purchased' is neither 0 nor 1 (257 rows like it)",
    ),
    "after blank rows": (
        cell(7, AGE, "x").replace("\n", "\n\n", 3),
        "row 10, column Age: 'x' is not a number",
    ),
    "CRLF": (cell(7, AGE, "x").replace("\n", "\r\n"), "row 7, column Age: 'x' is not a number"),
    "after CR CRLF": (cell(7, AGE, "x").replace("\n", "\r\r\n"), "row 13, column Age: 'x' is not a number"),
    "after a cell of two lines": (
        table((3, row(3, Gender='"Ma\nle"')), (7, row(7, Age="x"))),
        "row 8, column Age: 'x' is not a number",
    ),
    # rows and header
    "too few fields": (table((8, "15600000,Male,30,20000")), "row 8: 4 fields where the header has 5"),
    "too many fields": (table((8, LINES[7] + ",1")), "row 8: 6 fields where the header has 5"),
    "two rows in one": (table((401, LINES[400] + LINES[399])), "row 401: 9 fields where the header has 5"),
    "unclosed quote": (table((401, '"' + LINES[400])), "row 401: ", "not valid CSV", "quotation mark"),
    "no age": (
        column_changed(lambda c: [*c[:2], *c[3:]]),
        "row 1: no column Age; found: User ID, Gender, EstimatedSalary, Purchased",
    ),
    "two columns missing": (
        column_changed(lambda c: [*c[:2], c[3]]),
        "row 1: no column Age or Purchased; found: User ID, Gender, EstimatedSalary",
    ),
    "no header": ("\n".join(LINES[1:]), "row 1: no column Age", "found: 15624510, Male, 19, 19000, 0"),
    "header after blank rows": ("\n\n" + TEXT.replace("Age", "Years"), "row 3: no column Age; found"),
    "duplicate column": (
        column_changed(lambda c: [*c, c[2]]),
        "row 1, column Age: there are several columns of this name",
    ),
    "UserID and User ID": (column_changed(lambda c: ["UserID", *c] if c[0] == "User ID" else ["1", *c]), "several"),
    "semicolons": (TEXT.replace(",", ";"), "row 1: fields are separated by semicolons", "commas"),
    "semicolons and quotes": (
        column_changed(lambda c: [f'"{x}"' for x in c]).replace(",", ";"),
        "row 1: fields are separated by semicolons",
    ),
    "tabs": ("\n" + TEXT.replace(",", "\t"), "row 2: fields are separated by tabs", "commas"),
    "bars": (TEXT.replace(",", "|"), "row 1: fields are separated by bars", "commas"),
    # too little
    "empty": ("", "the file is empty"),
    "blank lines only": ("\n \n\r\n", "the file is empty"),
    "byte order mark only": ("\ufeff", "the file is empty"),
    "header only": (HEADER + "\n", "only 0 rows below the header", "at least 10"),
    "six rows": ("\n".join(LINES[:7]), "only 6 rows below the header", "at least 10"),
    "nobody bought": (
        column_changed(lambda c: [*c[:4], c[4] if c[0] == "User ID" else "0"]),
        "Purchased: every row is 0",
    ),
    "everybody bought": (
        column_changed(lambda c: [*c[:4], c[4] if c[0] == "User ID" else "1"]),
        "column Purchased: every row is 1",
    ),
    # not CSV at all
    "Excel workbook": (b"PK\x03\x04\x14\x00\x06\x00" + b"\0" * 500, "Excel workbook or another zip", "save it as CSV"),
    "old Excel workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500, "old Excel workbook", "save it as CSV"),
    "NUL bytes": (TEXT.encode()[:300] + b"\0" + TEXT.encode()[300:], "NUL bytes"),
    "UTF-16": (TEXT.encode("utf-16"), "is UTF-16 text", "save it as UTF-8"),
    "UTF-16, big end first": (b"\xfe\xff" + TEXT.encode("utf-16-be"), "is UTF-16 text", "save it as UTF-8"),
    "UTF-16 without a mark": (TEXT.encode("utf-16-le"), "NUL bytes", "UTF-16"),
    "a web page": (b"<!DOCTYPE html>\n<html></html>", "is a web page", "raw file"),
    "Latin-1": (
        cell(4, "Gender", "M\u00e4nnlich").encode("latin-1"),
        f"row 4: byte {len(chr(10).join(LINES[:3])) + 1 + 10 + 1} of the file (0xe4) is not UTF-8",
    ),
    "Latin-1 after a mark": (
        b"\xef\xbb\xbf" + cell(4, "Gender", "M\u00e4nnlich").encode("latin-1"),
        f"row 4: byte {len(chr(10).join(LINES[:3])) + 1 + 10 + 1 + 3} of the file (0xe4) is not UTF-8",
    ),
}


@pytest.mark.parametrize(("content", "fragments"), [(c, f) for c, *f in REFUSALS.values()], ids=REFUSALS.keys())
def test_refusal_names_file_place_and_mend(content, fragments, tmp_path, capsys):
    file = tmp_path / "broken.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        load_ads(file)
    message = str(caught.value)
    assert message.startswith("broken.csv")
    for fragment in fragments:
        assert fragment in message
    assert message.count("Mend: ") == 1
    assert message.endswith(".")
    assert "\n" not in message
    assert caught.value.__cause__ is None
    assert capsys.readouterr().out == ""


def test_refuses_a_directory(tmp_path):
    with pytest.raises(DataError, match=r"is a directory\. Mend: "):
        load_ads(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_refuses_a_pipe_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match=r"pipe\.csv .*is not a regular file\. Mend: "):
        load_ads(tmp_path / "pipe.csv")


def test_refuses_a_huge_file_before_reading_it(tmp_path):
    file = tmp_path / "huge.csv"
    with file.open("wb") as sparse:
        sparse.truncate(100_000_001)
    with pytest.raises(DataError, match=r"huge\.csv .*100,000,001 bytes, the limit is 100,000,000\. Mend: "):
        load_ads(file)


def test_a_file_of_the_largest_size_is_read(tmp_path):
    file = tmp_path / "large.csv"
    with file.open("wb") as sparse:
        sparse.truncate(100_000_000)
    with pytest.raises(DataError, match="NUL bytes"):
        load_ads(file)


def test_refuses_an_unreadable_file(tmp_path):
    file = tmp_path / "locked.csv"
    file.write_text(TEXT)
    file.chmod(0)
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    try:
        if is_root:  # root may read everything: be nobody for a moment
            os.seteuid(65534)
        with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)\. Mend: "):
            load_ads(file)
    finally:
        if is_root:
            os.seteuid(0)


def test_data_error_is_a_value_error_and_survives_pickling():
    error = pickle.loads(pickle.dumps(DataError("a.csv: b. Mend: c.")))
    assert isinstance(error, ValueError)
    assert str(error) == "a.csv: b. Mend: c."


# --- the spellings of the pinned copies --------------------------------------------------------------------


def as_r_writes_it(frame):
    """A quoted row number counted from 1, the target in quotes, no user and no gender."""
    rows = frame[["Age", "EstimatedSalary", "Purchased"]].itertuples()
    lines = ['"","Age","EstimatedSalary","Purchased"', *(f'"{i + 1}",{a},{s},"{p}"' for i, a, s, p in rows)]
    return "\n".join(lines) + "\n"


def plain(frame):
    return frame.to_csv(index=False, lineterminator="\n")


SPELLINGS = {
    "Gau25": as_r_writes_it,
    # That copy was not at hand when this was written: the spellings that public copies have otherwise.
    "balajich": lambda frame: plain(frame).replace("\n", "\r\n"),
    "balajich, decimals": lambda frame: plain(frame.astype({"Age": float, "EstimatedSalary": float})),
    "ahmedyehia-Git": lambda frame: plain(frame).rstrip("\n").replace("\n", "\n,,,,\n"),
    "dhirpanchal": lambda frame: frame.to_csv(lineterminator="\n"),
}


def test_each_pinned_address_has_its_spelling_here():
    owners = [url.removeprefix("https://raw.githubusercontent.com/").split("/")[0] for url in ads.URLS]
    assert owners == list(dict.fromkeys(name.partition(",")[0] for name in SPELLINGS))


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_pinned_copy_is_the_real_table_in_its_own_spelling(spell, real_path, tmp_path):
    file = tmp_path / "copy.csv"
    file.write_bytes(spell(load_ads(real_path)).encode())
    assert fingerprint(load_ads(file)) == CANONICAL_FINGERPRINT


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_pinned_copys_spelling_is_read_without_the_real_table_too(spell, tmp_path):
    file = tmp_path / "copy.csv"
    file.write_bytes(spell(load_ads(STAND_IN)).encode())
    assert fingerprint(load_ads(file)) == fingerprint(load_ads(STAND_IN))


# --- fingerprint ------------------------------------------------------------------------------------------


def test_fingerprint_of_the_real_table(real_path):
    assert fingerprint(load_ads(real_path)) == CANONICAL_FINGERPRINT


def test_fingerprint_sees_content_and_order_only():
    frame = load_ads(STAND_IN)
    same = frame[["Purchased", "Age", "EstimatedSalary"]].astype(float).set_index(frame.index + 7)
    assert fingerprint(same) == fingerprint(frame)
    assert fingerprint(frame[::-1]) != fingerprint(frame)
    assert fingerprint(frame.assign(Age=frame["Age"] + (frame.index == 399))) != fingerprint(frame)
    assert fingerprint(frame) != CANONICAL_FINGERPRINT


# --- order of search, notice and attributes ---------------------------------------------------------------

STAND_IN_NOTICE = (
    "Data: the synthetic stand-in, 400 rows (the real table was not found; see data/README.md). "
    "Figures differ from the documented ones.\n"
)
REAL_NOTICE = "Data: the real Social_Network_Ads table, 400 rows.\n"


def shorter(path, rows):
    """Write a valid table of so many rows, so that the tables of one test can be told apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Buyers and others are both among the last rows.
    path.write_text("\n".join([HEADER, *LINES[-rows:]]) + "\n")
    return path


@pytest.fixture
def places(tmp_path):
    """A data folder with a stand-in of its own, and no network."""
    shorter(tmp_path / "data" / "stand_in.csv", 20)
    return ads._Places(data=tmp_path / "data", cache=tmp_path / "cache", urls=())


def test_order_of_search(places, tmp_path, monkeypatch, capsys):
    assert len(ads._load(None, places)) == 20
    cached = shorter(places.cache / "Social_Network_Ads.csv", 30)
    trusting = ads._Places(places.data, places.cache, (), expected=fingerprint(load_ads(cached)))
    assert len(ads._load(None, places)) == 20  # a copy in the cache counts only as the real table
    assert len(ads._load(None, trusting)) == 30
    shorter(places.data / "Social_Network_Ads.csv", 40)
    assert len(ads._load(None, trusting)) == 40
    monkeypatch.setenv("ADS_CSV", str(shorter(tmp_path / "named.csv", 50)))
    assert len(ads._load(None, trusting)) == 50
    assert len(ads._load(shorter(tmp_path / "given.csv", 60), trusting)) == 60
    monkeypatch.setenv("ADS_CSV", "")
    assert len(ads._load(None, trusting)) == 40


def test_broken_copy_in_the_cache_is_passed_over(places):
    places.cache.mkdir()
    (places.cache / "Social_Network_Ads.csv").write_text("broken")
    assert len(ads._load(None, places)) == 20


def test_chosen_file_is_never_replaced_silently(places, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"absent\.csv \(given path\): there is no such file\. Mend: "):
        ads._load(tmp_path / "absent.csv", places)
    with pytest.raises(DataError, match="is a directory"):
        ads._load("", places)
    monkeypatch.setenv("ADS_CSV", str(tmp_path / "absent.csv"))
    with pytest.raises(DataError, match=r"absent\.csv \(file named by ADS_CSV\): there is no such file\. Mend: "):
        ads._load(None, places)
    monkeypatch.delenv("ADS_CSV")
    (places.data / "Social_Network_Ads.csv").write_text("broken")
    with pytest.raises(DataError, match=r"^data/Social_Network_Ads\.csv, row 1: no column Age"):
        ads._load(None, places)


def test_without_a_clone_there_is_no_stand_in(places):
    (places.data / "stand_in.csv").unlink()
    with pytest.raises(DataError, match=r"no table was found.* comes with a clone.*Mend: give the path of a table\."):
        ads._load(None, places)


def test_home_is_expanded(tmp_path, monkeypatch):
    shorter(tmp_path / "mine.csv", 30)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert len(load_ads("~/mine.csv")) == 30


def test_notice_and_attributes_of_the_stand_in(tmp_path, capsys):
    places = ads._Places(cache=tmp_path / "cache", data=STAND_IN.parent, urls=(), expected="nothing")
    if (STAND_IN.parent / "Social_Network_Ads.csv").exists():
        (tmp_path / "stand_in.csv").write_text(TEXT)
        places = ads._Places(cache=tmp_path / "cache", data=tmp_path, urls=(), expected="nothing")
    frame = ads._load(None, places)
    assert capsys.readouterr() == (STAND_IN_NOTICE, "")
    assert frame.attrs == {"source": "the synthetic stand-in", "canonical": False}


def test_notice_and_attributes_of_another_table(tmp_path, capsys):
    frame = load_ads(shorter(tmp_path / "my_table.csv", 398))
    assert capsys.readouterr() == (
        "Data: my_table.csv, 398 rows: a valid table, but not the canonical one: "
        "documented figures need not reproduce.\n",
        "",
    )
    assert frame.attrs == {"source": "my_table.csv (given path)", "canonical": False}


def test_real_table_has_one_notice_wherever_it_came_from(places, tmp_path, monkeypatch, capsys):
    # Any content can stand for the real one: what counts as real is a parameter.
    expected = fingerprint(load_ads(STAND_IN))
    places = ads._Places(places.data, places.cache, (), expected)
    capsys.readouterr()
    sources = []

    def load(path=None):
        frame = ads._load(path, places)
        assert capsys.readouterr() == (REAL_NOTICE, "")
        assert frame.attrs["canonical"] is True
        sources.append(frame.attrs["source"])

    load(STAND_IN)
    monkeypatch.setenv("ADS_CSV", str(STAND_IN))
    load()
    monkeypatch.delenv("ADS_CSV")
    for folder in (places.cache, places.data):
        folder.mkdir(exist_ok=True)
        (folder / "Social_Network_Ads.csv").write_text(TEXT)
        load()
    assert sources == [
        "the real table (given path)",
        "the real table (file named by ADS_CSV)",
        "the real table (in the cache folder)",
        "the real table (in the data folder)",
    ]


def test_real_table_is_recognised(real_path, capsys):
    frame = load_ads(real_path)
    assert capsys.readouterr().out == REAL_NOTICE
    assert frame.attrs == {"source": "the real table (given path)", "canonical": True}
    assert frame["Purchased"].iloc[:320].sum() == 92
    assert frame["Purchased"].iloc[320:].sum() == 51
