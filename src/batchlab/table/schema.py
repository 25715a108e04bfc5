"""From the bytes of a CSV file to a checked table, for columns that the caller describes.

A `DataError` names the file, the row, the column and the mend. Nothing is ever dropped, filled in or rounded here.
"""

from __future__ import annotations

import csv
import io
import math
import re
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
import pandas as pd

_MAX_FILE_BYTES = 100_000_000
_MIN_ROWS = 10


class DataError(ValueError):
    """A table cannot be used; the message names the file, the row, the column and the mend."""


def complaint(name: str, problem: str, mend: str, row: int | None = None, column: str | None = None) -> DataError:
    """Word a complaint about a place in a table; rows as an editor counts lines, from 1."""
    place = name + (f", row {row}" if row else "") + (f", column {column}" if column else "")
    return DataError(f"{place}: {problem}. Mend: {mend}.")


# --- what a column may hold ---------------------------------------------------------------------------

_MISSING = ("", "na", "n/a", "nan", "null", "none", "?")
_TOO_LARGE = 2.0**53  # from here on, floats skip whole numbers; no age, salary or user number comes near

#: Whether each cell is bad, given its text and its number (`_number`); what is wrong; the mend.
Check = tuple[Callable[[pd.Series, pd.Series], pd.Series], str, str]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: As the header spells it.
        checks: Each may rely on the ones before it.
        is_text: Whether it stays text; else it holds whole numbers.
        is_needed: Whether a table without it is refused.
        alias: Another spelling of the name.
    """

    name: str
    checks: tuple[Check, ...]
    is_text: bool = False
    is_needed: bool = True
    alias: str | None = None


PRESENT: Check = (
    lambda text, number: text.str.lower().isin(_MISSING),
    "is missing",
    "restore the value from an intact copy, or delete the row",
)
COUNTABLE: tuple[Check, ...] = (
    (lambda text, number: number.isna(), "is not a number", "write a plain whole number such as 46"),
    (lambda text, number: np.isinf(number), "is infinite", "write a plain whole number such as 46"),
    (lambda text, number: number < 0, "is negative", "write a whole number of at least 0"),
    (lambda text, number: number % 1 != 0, "is not a whole number", "write a plain whole number such as 46"),
    (lambda text, number: number >= _TOO_LARGE, "is implausibly large", "correct the value"),
)

_PLAIN = r"[0-9]{1,15}"
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE](?P<exponent>[+-]?[0-9]+))?", re.ASCII)
_INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE | re.ASCII)


def _numbers(text: pd.Series) -> pd.Series:
    """Return for each cell a float that every check answers as it would the exact value of the text."""
    numbers = pd.Series(math.nan, index=text.index, dtype="float64")
    plain = text.str.fullmatch(_PLAIN).astype(bool)
    numbers[plain] = text[plain].astype("int64").astype("float64")
    others = text[~plain]
    numbers[~plain] = others.map({cell: _number(cell) for cell in others.unique()}).astype("float64")
    return numbers


def _number(cell: str) -> float:
    """Return what a cell's text means if that is whole and below 2**53, else a float that fails the same checks.

    Decided on the text's exact decimal value: the nearest float of 1e-400 is 0, that of 18.99999999999999999999 is 19.
    """
    sign = -1.0 if cell.startswith("-") else 1.0
    if _INFINITE.fullmatch(cell):
        return sign * math.inf
    match = _DECIMAL.fullmatch(cell)
    if match is None:
        return math.nan
    try:
        value = abs(Decimal(cell))
    except InvalidOperation:  # an exponent beyond what even Decimal holds
        return sign * (0.5 if match["exponent"].startswith("-") else _TOO_LARGE)
    if not value:
        return 0.0
    if not value.is_finite() or value.adjusted() > 16:
        return sign * _TOO_LARGE
    if value.adjusted() < 0 or value != value.to_integral_value():
        return sign * 0.5
    return sign * min(float(value), _TOO_LARGE)


# --- from bytes to records ----------------------------------------------------------------------------

_SAVE_AS_CSV = "open it in its program and save it as CSV (UTF-8)"
_NOT_CSV = (  # first bytes of a file, what they give away, the mend
    (b"PK\x03\x04", "is an Excel workbook or another zip archive, not a CSV file", _SAVE_AS_CSV),
    (b"\xd0\xcf\x11\xe0", "is an old Excel workbook, not a CSV file", _SAVE_AS_CSV),
    (b"\xff\xfe", "is UTF-16 text", "save it as UTF-8"),
    (b"\xfe\xff", "is UTF-16 text", "save it as UTF-8"),
    (b"<!", "is a web page, not a CSV file", "download the raw file behind that page"),
)
_BOM = b"\xef\xbb\xbf"
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def _text(content: bytes, name: str) -> str:
    """Decode a file's bytes, or say what they are instead of UTF-8 text."""
    for start, problem, mend in _NOT_CSV:
        if content.startswith(start):
            raise complaint(name, problem, mend)
    if b"\0" in content:
        raise complaint(name, "holds NUL bytes, so it is a binary file or UTF-16 text", _SAVE_AS_CSV)
    try:
        return content.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        position = error.start + len(content) - len(error.object)
        row = len(io.StringIO(error.object[: error.start].decode("utf-8") + "x", newline=None).readlines())
        problem = f"byte {position + 1} of the file (0x{content[position]:02x}) is not UTF-8 text"
        raise complaint(name, problem, "save it as UTF-8", row=row) from None


def _records(text: str, name: str, needed: Sequence[str]) -> tuple[list[str], list[list[str]], list[int]]:
    """Split CSV text into header, records, and the 1-based line on which header and records start.

    A row without a single filled cell is blank, whether or not it has commas.
    """
    below_blank_rows = text.lstrip(", \t\r\n")
    row = text[: len(text) - len(below_blank_rows)].count("\n") + 1
    first = below_blank_rows.split("\n", 1)[0].replace('"', "")
    for delimiter, plural in _DELIMITERS.items():
        if len({cell.strip() for cell in first.split(delimiter)} & {*needed}) > 1:
            mend = "save it with commas between fields"
            raise complaint(name, f"fields are separated by {plural}", mend, row)
    reader = csv.reader(io.StringIO(text, newline=None), skipinitialspace=True, strict=True)
    records, lines, line = [], [], 1
    try:
        for record in reader:
            if any(cell.strip() for cell in record):
                records.append(record)
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        problem = f"the record that starts here is not valid CSV ({error})"
        raise complaint(name, problem, "look for a stray or an unclosed quotation mark", row=line) from None
    if not records:
        raise complaint(name, "the file is empty", "restore it from an intact copy")
    return [cell.strip() for cell in records[0]], records[1:], lines


def _check_header(header: list[str], name: str, row: int, needed: Sequence[str]) -> None:
    """Insist on the needed columns, each named column once."""
    missing = [column for column in needed if column not in header]
    if missing:
        problem = f"no column {' or '.join(missing)}; found: {', '.join(header)[:200]}"
        raise complaint(name, problem, f"the header needs {', '.join(needed)}", row)
    for column, count in Counter(header).items():
        if column and count > 1:
            raise complaint(name, "there are several columns of this name", "keep one of them", row, column)


def parse(content: bytes, name: str, columns: Sequence[Column]) -> pd.DataFrame:
    """Read and check the bytes of a CSV file.

    Args:
        content: The whole file. Harmless variants are accepted: CRLF, a byte order mark, blank rows (with or without
            commas), further columns, another order of columns, `46.0` for `46`, spaces around names and cells.
        name: The file's name, for messages.
        columns: What to read.

    Returns:
        A frame of n rows with those of the columns that the file has, in the given order; numbers as int64.

    Raises:
        DataError: If the content is anything but a valid table.
    """
    needed = [column.name for column in columns if column.is_needed]
    header, records, lines = _records(_text(content, name), name, needed)
    aliases = {column.alias: column.name for column in columns if column.alias}
    header = [aliases.get(column, column) for column in header]
    _check_header(header, name, lines.pop(0), needed)
    for record, line in zip(records, lines, strict=True):
        if len(record) != len(header):
            problem = f"{len(record)} fields where the header has {len(header)}"
            raise complaint(name, problem, "restore the row from an intact copy", row=line)
    if len(records) < _MIN_ROWS:
        problem = f"only {len(records)} rows below the header"
        raise complaint(name, problem, f"use a table of at least {_MIN_ROWS} rows")

    frame = {}
    for column in (column for column in columns if column.name in header):
        position = header.index(column.name)
        text = pd.Series([record[position].strip() for record in records], dtype=object)
        number = _numbers(text)
        for is_bad, problem, mend in column.checks:
            bad = np.flatnonzero(is_bad(text, number))
            if len(bad):
                problem = f"{text[bad[0]][:40]!r} {problem}" + (f" ({len(bad)} rows like it)" if len(bad) > 1 else "")
                raise complaint(name, problem, mend, lines[bad[0]], column.name)
        frame[column.name] = text.astype(str) if column.is_text else number.astype("int64")
    return pd.DataFrame(frame)


def read(path: Path, shown: str) -> bytes:
    """Read a file of reasonable size.

    Args:
        path: The file.
        shown: The path as messages give it.

    Raises:
        DataError: It is absent, no regular file, unreadable, or larger than 100 MB.
    """
    mend = "give the path of a CSV file that you may read"
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise complaint(shown, "is a directory" if path.is_dir() else "is not a regular file", mend)
        if status.st_size > _MAX_FILE_BYTES:
            problem = f"the file has {status.st_size:,} bytes, the limit is {_MAX_FILE_BYTES:,}"
            raise complaint(shown, problem, "use the table itself, or a sample of it")
        return path.read_bytes()
    except FileNotFoundError:
        raise complaint(shown, "there is no such file", "correct the path, or leave it out") from None
    except OSError as error:
        raise complaint(shown, f"the file cannot be read ({error.strerror})", mend) from None
