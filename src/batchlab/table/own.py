"""`read_table`: a CSV or Parquet file of one's own, checked column by column. Never scales, never splits.

Nothing is dropped or filled in unless the caller has said so; what was found is kept, for the report.
"""

from __future__ import annotations

import csv
import difflib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, get_args

import numpy as np
import pandas as pd
import psutil
import pyarrow
import pyarrow.parquet

from batchlab.table.leaks import leaks
from batchlab.table.schema import DataError, complaint

Missing = Literal["refuse", "drop rows", "impute"]
"""What to do about cells without a value: complain; drop their rows; fill in what the training part suggests."""

Kind = Literal["classes", "numeric"]
"""Whether the target names a class or is a number to be met."""

MISSING_WORDS = ("", "na", "n/a", "nan", "null", "none", "?")
"""Texts that count as a missing cell, in any spelling of capitals."""

MOST_CATEGORIES = 1000
_MOST_CLASSES = 20  # a target with more distinct whole numbers is taken for a number
_LEAST_ROWS = 20
_CONSTANT = "constant: it says nothing"
_MOSTLY = 0.5  # of the cells: from here on text among numbers deserves a note
_SAMPLE_ROWS = 1000
_COPIES = 3  # the text, the numbers that come of it, and what is encoded for training

Checked = TypeVar("Checked")


class _Found(NamedTuple):
    """One column, read.

    Attributes:
        values: float64 with NaN, or text with None, where a cell is missing.
        numeric: Whether they are numbers.
        note: What a reader should know.
    """

    values: pd.Series
    numeric: bool
    note: str

    def at(self, rows: np.ndarray) -> _Found:
        """Return the column with these rows alone, counted anew."""
        return _Found(self.values[rows].reset_index(drop=True), self.numeric, self.note)


@dataclass(frozen=True)
class OwnTable:
    """A checked table.

    Attributes:
        name: Of its file, without the folder.
        features: Numeric columns as float64, the others as text; NaN or None where a cell is missing, which only
            `missing="impute"` leaves there.
        target: Float64, or the names of classes as text; no cell is missing.
        target_name: Of its column.
        kind: What the target is.
        columns: One row a column of the file: column, role, cells, distinct, missing, note.
        warnings: What may spoil the result, a sentence each.
        missing: The choice that was made.
        rows_read: Rows of the file; more than those of `features` where rows were dropped.
    """

    name: str
    features: pd.DataFrame = field(repr=False)
    target: pd.Series = field(repr=False)
    target_name: str
    kind: Kind
    columns: pd.DataFrame = field(repr=False)
    warnings: list[str]
    missing: Missing
    rows_read: int

    @property
    def classes(self) -> list[str]:
        """The names of the classes, numbers in their order; none for a numeric target."""
        if self.kind == "numeric":
            return []
        return sorted(self.target.unique(), key=lambda name: (*_sortable(name), name))


def read_table(
    path: str | os.PathLike[str],
    target: str,
    *,
    missing: Missing = "refuse",
    drop: Sequence[str] = (),
    kind: Kind | None = None,
) -> OwnTable:
    """Read and check a table.

    A column is numeric if every cell that is there is a number, and categorical otherwise. A target of text names
    classes; one of numbers does if it has two distinct values, or up to 20 that are whole.

    Args:
        path: A CSV file (UTF-8, commas, a header) or a Parquet file, `.csv` or `.parquet`.
        target: The column to be predicted.
        missing: What to do about missing cells. A target that is missing is never filled in.
        drop: Columns to leave out.
        kind: What the target is, where it should not be guessed.

    Raises:
        DataError: The file or the table cannot be used; the message says what to do. What is wrong with its columns is
            said at once, a line each.
        ValueError: A choice is none of those there are.
    """
    for given, choices in ((missing, get_args(Missing)), (kind, (None, *get_args(Kind)))):
        if given not in choices:
            raise ValueError(f"read_table: {given!r} is no choice; there are {', '.join(map(repr, choices))}.")
    path = Path(path).expanduser()
    frame = _read(path)
    _check_names(frame, path.name, target, drop)
    frame = frame.drop(columns=list(drop))
    if len(frame) < _LEAST_ROWS:
        rows = f"only {len(frame)} rows" if len(frame) else "a header, and no rows"
        raise complaint(path.name, f"there are {rows} below it", f"use a table of at least {_LEAST_ROWS} rows")
    problems: list[DataError] = []

    def checked(check: Callable[..., Checked], *arguments: object) -> Checked | None:
        """Return what a check does; None where it complains, which is kept, so that all is said at once."""
        try:
            return check(*arguments)
        except DataError as refusal:
            problems.append(refusal)
            return None

    found = {name: one for name in frame if (one := checked(_column, frame[name], path.name)) is not None}
    del frame
    columns = _described(found, target)
    if target in found:  # else the rest cannot be judged
        kept = checked(_without_missing, found, path.name, target, missing)
        if kept is None:
            kept = found[target].values.notna().to_numpy()
        found = {name: one.at(kept) for name, one in found.items()}
        aim = found.pop(target)
        if len(aim.values):
            kind = checked(_checked_target, aim, path.name, target, kind)
        for name, one in found.items():
            checked(_check_categories, one, path.name, name)
    if problems:
        raise DataError("\n".join(map(str, problems)))
    table = OwnTable(
        name=path.name,
        features=pd.DataFrame({name: one.values for name, one in found.items()}),
        target=aim.values if kind == "numeric" else _named(aim.values),
        target_name=target,
        kind=kind,
        columns=columns,
        warnings=[],
        missing=missing,
        rows_read=len(kept),
    )
    table.warnings.extend(leaks(table.features, table.target, kind == "numeric"))
    table.warnings.extend(_row_numbers(table.features))
    if constant := columns.loc[columns["note"] == _CONSTANT, "column"].tolist():
        table.warnings.append(f"Constant, so that they say nothing: {', '.join(map(repr, constant))}.")
    if kind == "classes" and aim.numeric and aim.values.nunique() > 2:
        table.warnings.append(
            f"The {aim.values.nunique()} whole numbers of the target are taken for classes. If they are amounts, say "
            'kind="numeric".'
        )
    return table


# --- the file ----------------------------------------------------------------------------------------


def _read(path: Path) -> pd.DataFrame:
    """The table as text, or as Parquet's own types, if memory allows."""
    readers = {".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise complaint(path.name, "its name ends neither in .csv nor in .parquet", "save the table as one of the two")
    if not path.is_file():
        raise complaint(path.name, "there is no such file", "correct the path")
    try:
        return readers[path.suffix.lower()](path)
    except UnicodeDecodeError:
        raise complaint(path.name, "is not UTF-8 text", "save it as CSV in UTF-8") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, csv.Error) as error:
        mend = "look for a row with more fields than the header, or for an unclosed quotation mark"
        raise complaint(path.name, f"is not valid CSV ({str(error).strip()})", mend) from None
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise complaint(path.name, f"cannot be read ({error})", "restore it from an intact copy") from None


def _read_csv(path: Path) -> pd.DataFrame:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = [name.strip() for name in next(csv.reader(file), [])]
    if len(header) == 1 and (other := next((sign for sign in ";\t|" if sign in header[0]), None)):
        raise complaint(path.name, f"fields are separated by {other!r}", "save it with commas between fields", 1)
    _check_header(header, path.name)
    options = {
        "encoding": "utf-8-sig",
        "dtype": str,
        "keep_default_na": False,
        "index_col": False,
        "names": range(len(header)),
        "header": 0,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # fields beyond the header would be lost
        sample = pd.read_csv(path, nrows=_SAMPLE_ROWS, **options)
        if len(sample) == _SAMPLE_ROWS:
            written = sum(sample[name].str.len().sum() + len(sample) for name in sample)
            _check_memory(sample, path.stat().st_size / written * len(sample), path.name)
        frame = pd.read_csv(path, **options) if len(sample) == _SAMPLE_ROWS else sample
    return frame.set_axis(header, axis=1)


def _read_parquet(path: Path) -> pd.DataFrame:
    with pyarrow.parquet.ParquetFile(path) as file:
        _check_header([name.strip() for name in file.schema_arrow.names], path.name)
        sample = next(file.iter_batches(_SAMPLE_ROWS), None)
        if sample is not None:
            _check_memory(sample.to_pandas(), file.metadata.num_rows, path.name)
        frame = file.read().to_pandas(ignore_metadata=True)
    return frame.rename(columns=str.strip)


def _check_header(header: list[str], name: str) -> None:
    if not header:
        raise complaint(name, "the file is empty", "restore it from an intact copy")
    if "" in header:
        mend = "name it; a row number that pandas wrote is left out with to_csv(index=False)"
        raise complaint(name, f"column {header.index('') + 1} has no name", mend)
    repeated = [column for column, count in Counter(header).items() if count > 1]
    if repeated:
        said = ", ".join(map(repr, repeated))
        raise complaint(name, f"several columns have the same name: {said}", "rename them, or keep one of each")


def _check_memory(sample: pd.DataFrame, rows: float, name: str) -> None:
    """Refuse what would not fit, before all of it is read."""
    needed = _COPIES * rows * sample.memory_usage(deep=True, index=False).sum() / len(sample)
    available = psutil.virtual_memory().available
    if needed > available:
        problem = (
            f"some {rows:,.0f} rows need about {needed:,.0f} bytes of memory to be read and encoded, and "
            f"{available:,} are available"
        )
        raise complaint(name, problem, "give a sample of its rows: some thousands are enough for this study")


# --- names and columns -------------------------------------------------------------------------------


def _check_names(frame: pd.DataFrame, name: str, target: str, drop: Iterable[str]) -> None:
    for wanted in (target, *drop):
        if wanted not in frame:
            near = difflib.get_close_matches(wanted, map(str, frame), 1)
            guess = f"did you mean {near[0]!r}? " if near else ""
            problem = f"there is no column {wanted!r}; {guess}found: {', '.join(map(str, frame))[:300]}"
            raise complaint(name, problem, "correct the name")
    if target in drop:
        raise complaint(name, f"the target {target!r} is among the columns to leave out", "name another target")
    if len(frame.columns) - len(set(drop)) < 2:
        raise complaint(name, "there is no column but the target", "use a table that has features too")


def _column(cells: pd.Series, name: str) -> _Found:
    """Tell numbers from categories."""
    if pd.api.types.is_bool_dtype(cells.dtype) or isinstance(cells.dtype, pd.CategoricalDtype):
        cells = cells.astype(object)
    elif pd.api.types.is_numeric_dtype(cells.dtype):
        return _Found(_finite(cells.astype("float64"), name), True, "")
    elif not (pd.api.types.is_string_dtype(cells.dtype) or cells.dtype == object):
        mend = "turn it into numbers or text, or leave the column out (drop)"
        raise complaint(name, f"it holds {cells.dtype}, neither numbers nor text", mend, column=str(cells.name))
    absent = cells.isna()
    text = cells.astype(object).where(absent, cells.astype(str).str.strip())
    absent |= text.astype(str).str.lower().isin(MISSING_WORDS)
    numbers = pd.to_numeric(text.where(~absent).astype(object), errors="coerce").astype("float64")
    odd = ~absent & numbers.isna()
    if not odd.any():
        return _Found(_finite(numbers, name), True, "" if not absent.all() else "no cell is filled")
    note = ""
    present = int((~absent).sum())
    if odd.sum() < _MOSTLY * present:
        note = f"taken for categories: {present - odd.sum()} cells are numbers, but {odd.sum()} are not, such as "
        note += repr(str(text[odd].iloc[0])[:40])
    return _Found(text.where(~absent, None), False, note)


def _finite(numbers: pd.Series, name: str) -> pd.Series:
    infinite = int(np.isinf(numbers).sum())
    if infinite:
        raise complaint(name, f"{infinite} cells are infinite", "correct them", column=str(numbers.name))
    return numbers


def _described(found: dict[str, _Found], target: str) -> pd.DataFrame:
    rows = []
    for name, (values, numeric, note) in found.items():
        distinct, absent = values.nunique(), int(values.isna().sum())
        # Where a category is missing from some rows, that tells them apart; a number is filled in by the only one.
        if not note and distinct == 1 and name != target and (numeric or not absent):
            note = _CONSTANT
        role = "target" if name == target else "feature"
        cells = "numbers" if numeric else "categories"
        rows.append((name, role, cells, distinct, absent, note))
    return pd.DataFrame(rows, columns=["column", "role", "cells", "distinct", "missing", "note"])


def _without_missing(found: dict[str, _Found], name: str, target: str, missing: Missing) -> np.ndarray:
    """Which rows are kept."""
    absent = pd.DataFrame({column: one.values.isna() for column, one in found.items()})
    kept = np.ones(len(absent), bool)
    counts = absent.sum()
    if empty := [column for column in found if counts[column] == len(absent)]:
        raise complaint(name, f"no cell is filled in {', '.join(map(repr, empty))}", "leave it out (drop)")
    if missing == "drop rows":
        kept = ~absent.any(axis=1).to_numpy()
        if kept.sum() < _LEAST_ROWS:
            problem = f"{kept.sum()} of {len(kept)} rows have no missing cell"
            raise complaint(name, problem, f'at least {_LEAST_ROWS} are needed; try missing="impute"')
        return kept
    if missing == "impute":
        counts = counts[[target]]
    if counts.any():
        said = ", ".join(f"{column!r} ({count} of {len(absent)})" for column, count in counts[counts > 0].items())
        ways = 'missing="drop rows" leaves their rows out'
        if not counts.get(target):
            ways += '; missing="impute" fills in the median of the training part, or a category of its own'
        else:
            ways += "; a target is never filled in"
        raise complaint(name, f"cells are missing in {said}", f"choose what to do: {ways}")
    return kept


# --- the target and the categories -------------------------------------------------------------------


def _checked_target(aim: _Found, name: str, target: str, kind: Kind | None) -> Kind:
    distinct = aim.values.nunique()
    if distinct < 2:
        problem = f"every row is {_named(aim.values).iloc[0]!r}, so there is nothing to learn"
        raise complaint(name, problem, "name a target that varies", column=target)
    if kind == "numeric" and not aim.numeric:
        raise complaint(name, "its cells are not all numbers", 'mend them, or say kind="classes"', column=target)
    if kind is None:
        whole = aim.numeric and (aim.values % 1 == 0).all()
        few = distinct == 2 or (whole and distinct <= _MOST_CLASSES)
        kind = "classes" if not aim.numeric or few else "numeric"
    if kind == "classes":
        counts = _named(aim.values).value_counts()
        single = counts.index[counts == 1].tolist()
        if single:
            shown = ", ".join(map(repr, single[:5])) + (", …" if len(single) > 5 else "")
            problem = f"{len(single)} of {len(counts)} classes have one row alone ({shown}), to train on or to check on"
            raise complaint(name, problem, "drop these rows, or join rare classes into one", column=target)
        if len(counts) > len(aim.values) // 5:
            problem = f"{len(counts)} classes are too many for {len(aim.values)} rows: a fifth of them is held out"
            raise complaint(name, problem, "join rare classes into one", column=target)
    return kind


def _named(values: pd.Series) -> pd.Series:
    """Classes as text: a whole number without its decimals."""
    if not pd.api.types.is_numeric_dtype(values.dtype):
        return values.astype(object)
    return values.map({value: f"{value:.0f}" if value % 1 == 0 else repr(value) for value in values.unique().tolist()})


def _sortable(name: str) -> tuple[bool, float]:
    try:
        return False, float(name)
    except ValueError:
        return True, 0.0


def _check_categories(one: _Found, name: str, column: str) -> None:
    distinct, rows = one.values.nunique(), len(one.values)
    if one.numeric:
        return
    why = f"; {one.note}" if one.note else ""
    mend = "join rare ones, or leave the column out (drop)"
    if distinct > MOST_CATEGORIES:
        problem = f"{distinct:,} categories, each of which would be a feature; {MOST_CATEGORIES:,} are the most{why}"
        raise complaint(name, problem, mend, column=column)
    if distinct > max(50, rows // 2):
        problem = f"{distinct} categories in {rows} rows: it names rows rather than describing them{why}"
        raise complaint(name, problem, mend, column=column)


def _row_numbers(features: pd.DataFrame) -> list[str]:
    return [
        f"Column {name!r} counts the rows. If it is a number of theirs and no property, leave it out (drop)."
        for name in features.select_dtypes("number")
        if (features[name].diff().iloc[1:] == 1).all()
    ]
