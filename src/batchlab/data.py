"""Find, verify, fetch and validate the advertising table.

`load_ads` returns the table, or raises a `DataError` that names the file, the row, the column and the mend.
Nothing is ever dropped, filled in, scaled or split here. `data/README.md` describes the data.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import stat
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from batchlab.paths import DATA

FEATURES = ("Age", "EstimatedSalary")
TARGET = "Purchased"
COLUMNS = ("User ID", "Gender", *FEATURES, TARGET)
_NEEDED = (*FEATURES, TARGET)

#: SHA-256 of the real table's content, see `fingerprint`.
CANONICAL_FINGERPRINT = "60123d8214cae221b1d218801dbd2d6555c61c24aef6dc3c7e25c28b888f2bac"

#: Public copies with that content, each pinned to a commit.
URLS = tuple(
    f"https://raw.githubusercontent.com/{pinned}"
    for pinned in (
        "Gau25/GitPractice/5b8ea47145e2572a0cf7f420ddf601ba0170cd83/Social_Network_Ads.csv",
        "balajich/deep-learning-with-python-brownlee/6359db94c4d10577c4087a513e543360440a6f49"
        "/code/local_env/data/Social_Network_Ads.csv",
        "ahmedyehia-Git/Data-Analysis-From-Scratch-With-Python/80c8176ce2075de42190f5428ae3849a94f58acb"
        "/Social_Network_Ads.csv",
        "dhirpanchal/ML/d5e5cbef02cd9967569eaa8002f93a29de2e5ef4/Social_Network_Ads.csv",
    )
)

_NAME = "Social_Network_Ads.csv"
_STAND_IN = "stand_in.csv"
_MAX_FILE_BYTES = 100_000_000
_MAX_DOWNLOAD_BYTES = 1_000_000  # the real table has about 11,000
_MIN_ROWS = 10
_DAY_SECONDS = 24 * 60 * 60


class DataError(ValueError):
    """A table cannot be used; the message names the file, the row, the column and the mend."""


def _complaint(name: str, problem: str, mend: str, row: int | None = None, column: str | None = None) -> DataError:
    place = name + (f", row {row}" if row else "") + (f", column {column}" if column else "")
    return DataError(f"{place}: {problem}. Mend: {mend}.")


# --- from bytes to a table ------------------------------------------------------------------------

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
_MISSING = ("", "na", "n/a", "nan", "null", "none", "?")

_Check = tuple[Callable[[pd.Series, pd.Series], pd.Series], str, str]
_PRESENT: _Check = (
    lambda text, value: text.str.lower().isin(_MISSING),
    "is missing",
    "restore the value from an intact copy, or delete the row",
)
_COUNTABLE: tuple[_Check, ...] = (  # each check may rely on the ones before it
    (lambda text, value: value.isna(), "is not a number", "write a plain whole number such as 46"),
    (lambda text, value: np.isinf(value), "is infinite", "write a plain whole number such as 46"),
    (lambda text, value: value < 0, "is negative", "write a whole number of at least 0"),
    (lambda text, value: value % 1 != 0, "is not a whole number", "write a plain whole number such as 46"),
    # From 2**53 on, floats skip whole numbers; no age, salary or user number comes near.
    (lambda text, value: value >= 2**53, "is implausibly large", "correct the value"),
)
_BINARY: tuple[_Check, ...] = (
    (
        lambda text, value: ~value.isin((0, 1)),
        "is neither 0 nor 1",
        "write 1 for bought and 0 for not bought",
    ),
)
_CHECKS: dict[str, tuple[_Check, ...]] = {
    "User ID": (_PRESENT, *_COUNTABLE),
    "Gender": (_PRESENT,),
    "Age": (_PRESENT, *_COUNTABLE),
    "EstimatedSalary": (_PRESENT, *_COUNTABLE),
    TARGET: (_PRESENT, *_BINARY),
}


def _text(content: bytes, name: str) -> str:
    """Decode a file's bytes, or say what they are instead of UTF-8 text."""
    for start, problem, mend in _NOT_CSV:
        if content.startswith(start):
            raise _complaint(name, problem, mend)
    if b"\0" in content:
        raise _complaint(name, "holds NUL bytes, so it is a binary file or UTF-16 text", _SAVE_AS_CSV)
    try:
        return content.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        position = error.start + len(content) - len(error.object)
        row = len(io.StringIO(error.object[: error.start].decode("utf-8") + "x", newline=None).readlines())
        problem = f"byte {position + 1} of the file (0x{content[position]:02x}) is not UTF-8 text"
        raise _complaint(name, problem, "save it as UTF-8", row=row) from None


def _records(text: str, name: str) -> tuple[list[str], list[list[str]], list[int]]:
    """Split CSV text into header, records, and the 1-based line on which header and records start."""
    row = text[: len(text) - len(text.lstrip())].count("\n") + 1
    first = text.lstrip().split("\n", 1)[0].replace('"', "")
    for delimiter, plural in _DELIMITERS.items():
        if len({cell.strip() for cell in first.split(delimiter)} & {*_NEEDED}) > 1:
            mend = "save it with commas between fields"
            raise _complaint(name, f"fields are separated by {plural}", mend, row)
    reader = csv.reader(io.StringIO(text, newline=None), skipinitialspace=True, strict=True)
    records, lines, line = [], [], 1
    try:
        for record in reader:
            if len(record) > 1 or (record and record[0].strip()):
                records.append(record)
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        problem = f"the record that starts here is not valid CSV ({error})"
        raise _complaint(name, problem, "look for a stray or an unclosed quotation mark", row=line) from None
    if not records:
        raise _complaint(name, "the file is empty", "restore it from an intact copy")
    return [cell.strip() for cell in records[0]], records[1:], lines


def _check_header(header: list[str], name: str, row: int) -> None:
    """Insist on the three needed columns, each named column once."""
    missing = [column for column in _NEEDED if column not in header]
    if missing:
        problem = f"no column {' or '.join(missing)}; found: {', '.join(header)[:200]}"
        raise _complaint(name, problem, f"the header needs {', '.join(_NEEDED)}", row)
    for column, count in Counter(header).items():
        if column and count > 1:
            raise _complaint(name, "there are several columns of this name", "keep one of them", row, column)


def _parse(content: bytes, name: str) -> pd.DataFrame:
    """Read and validate the bytes of a CSV file.

    Args:
        content: The whole file. Harmless variants are accepted: CRLF, a byte order mark, blank lines, further
            columns, another order of columns, `46.0` for `46`, spaces around names and cells, `UserID` for
            `User ID`.
        name: The file's name, for messages.

    Returns:
        A frame with the columns of `COLUMNS` that the file has, in that order; numbers as int64.

    Raises:
        DataError: If the content is anything but a valid table.
    """
    header, records, lines = _records(_text(content, name), name)
    header = ["User ID" if column == "UserID" else column for column in header]
    _check_header(header, name, lines.pop(0))
    for record, line in zip(records, lines, strict=True):
        if len(record) != len(header):
            problem = f"{len(record)} fields where the header has {len(header)}"
            raise _complaint(name, problem, "restore the row from an intact copy", row=line)
    if len(records) < _MIN_ROWS:
        problem = f"only {len(records)} rows below the header"
        raise _complaint(name, problem, f"use a table of at least {_MIN_ROWS} rows")

    frame = {}
    for column in (column for column in COLUMNS if column in header):
        position = header.index(column)
        text = pd.Series([record[position].strip() for record in records], dtype=object)
        value = pd.to_numeric(text, errors="coerce").astype("float64")
        for is_bad, problem, mend in _CHECKS[column]:
            bad = np.flatnonzero(is_bad(text, value))
            if len(bad):
                problem = f"{text[bad[0]][:40]!r} {problem}" + (f" ({len(bad)} rows like it)" if len(bad) > 1 else "")
                raise _complaint(name, problem, mend, lines[bad[0]], column)
        frame[column] = text.astype(str) if column == "Gender" else value.astype("int64")
    if (frame[TARGET] == frame[TARGET][0]).all():
        problem = f"every row is {frame[TARGET][0]}, so there is nothing to tell apart"
        raise _complaint(name, problem, "use a table with buyers (1) and others (0)", column=TARGET)
    return pd.DataFrame(frame)


def _read(path: Path, shown: str) -> bytes:
    """Read a file of reasonable size; `shown` is the path as messages give it."""
    mend = "give the path of a CSV file that you may read"
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _complaint(shown, "is a directory" if path.is_dir() else "is not a regular file", mend)
        if status.st_size > _MAX_FILE_BYTES:
            problem = f"the file has {status.st_size:,} bytes, the limit is {_MAX_FILE_BYTES:,}"
            raise _complaint(shown, problem, "use the table itself, or a sample of it")
        return path.read_bytes()
    except FileNotFoundError:
        raise _complaint(shown, "there is no such file", "correct the path, or leave it out") from None
    except OSError as error:
        raise _complaint(shown, f"the file cannot be read ({error.strerror})", mend) from None


def fingerprint(df: pd.DataFrame) -> str:
    """Hash a table's content, so that line ends, spelling and further columns do not matter.

    Args:
        df: A table of n rows with whole numbers in `Age`, `EstimatedSalary` and `Purchased`.

    Returns:
        SHA-256, as hexadecimal digits, of these three columns as CSV with header, LF line ends, in row order.
    """
    content = df[[*_NEEDED]].astype("int64").to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(content.encode()).hexdigest()


# --- finding a table ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Places:
    """Where `load_ads` looks, and what it takes for the real table."""

    data: Path = DATA
    cache: Path | None = None  # None: the user's cache folder, as pooch finds it
    urls: tuple[str, ...] = URLS
    expected: str = CANONICAL_FINGERPRINT
    budget: float = 5.0  # seconds, over all addresses

    def cache_folder(self) -> Path:
        import pooch  # only needed when the table is not at hand

        return self.cache or Path(pooch.os_cache("batch-size-lab"))


class _SizeLimit:
    """A progress bar for pooch that shows nothing and stops an oversized download."""

    total = received = 0

    def update(self, size: int) -> None:
        self.received += size
        if self.received > _MAX_DOWNLOAD_BYTES:
            raise DataError("the download is larger than the table can be")

    def reset(self) -> None: ...

    def close(self) -> None: ...


def _download(url: str, timeout: float, expected: str) -> bytes | None:
    """Fetch one address; return the file's bytes if its content has the expected fingerprint, else None."""
    import pooch

    pooch.get_logger().setLevel("CRITICAL")
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            downloader = pooch.HTTPDownloader(progressbar=_SizeLimit(), timeout=timeout)
            # No hash of bytes: public copies spell the same content differently.
            file = pooch.retrieve(url, known_hash=None, fname=_NAME, path=folder, downloader=downloader)
            content = Path(file).read_bytes()
        return content if fingerprint(_parse(content, _NAME)) == expected else None
    except Exception:  # whatever goes wrong out there, there is another address, or the stand-in
        return None


def _within(seconds: float, function: Callable[..., bytes | None], *args: object) -> bytes | None:
    """Call a function, but wait no longer than this; a daemon thread cannot keep Python from ending."""
    results: list[bytes | None] = []
    thread = threading.Thread(target=lambda: results.append(function(*args)), daemon=True)
    thread.start()
    # A timeout of sockets alone would hold neither for a slow name server nor for a server that drips bytes.
    thread.join(seconds)
    return results[0] if results else None


def _fetch(places: _Places) -> bytes | None:
    """Try the addresses in turn within the budget; return the verified bytes of the real table, or None."""
    deadline = time.monotonic() + places.budget
    for left, url in reversed(list(enumerate(reversed(places.urls)))):
        remaining = deadline - time.monotonic()
        # Half of what remains, so that one stalled address leaves time for the next; the last one takes all.
        share = remaining / 2 if left else remaining
        content = _within(share, _download, url, share, places.expected) if share > 0 else None
        if content is not None:
            return content
    return None


def _fetch_and_keep(places: _Places) -> bytes | None:
    """Download the real table unless that is switched off or failed within the last day, and keep it."""
    cache = places.cache_folder()
    marker = cache / "download-failed"
    try:
        recently = 0 <= time.time() - marker.stat().st_mtime < _DAY_SECONDS
    except OSError:
        recently = False
    if recently or os.environ.get("BATCHLAB_OFFLINE", "0") not in ("", "0"):
        return None

    content = _fetch(places)
    try:
        if content is None:
            cache.mkdir(parents=True, exist_ok=True)
            marker.touch()
    except OSError:
        pass  # without a marker the next call tries again
    for folder in (places.data, cache) if content else ():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Written beside its place and then renamed: no reader ever sees half a file.
            with tempfile.TemporaryDirectory(prefix=".", dir=folder) as beside:
                (Path(beside) / _NAME).write_bytes(content)
                (Path(beside) / _NAME).replace(folder / _NAME)
            break
        except OSError:
            continue  # a read-only folder: the next one, and if there is none, do not keep it
    return content


def _find(path: str | os.PathLike[str] | None, places: _Places) -> tuple[pd.DataFrame, str, str]:
    """Return the first table in the order of search, the name of its file, and where it was found."""
    given, how = (path, "given path") if path is not None else (os.environ.get("ADS_CSV"), "file named by ADS_CSV")
    if given is not None and (given or path is not None):  # an empty ADS_CSV counts as unset
        file = Path(given).expanduser()
        return _parse(_read(file, f"{given} ({how})"), file.name), file.name, how

    file = places.data / _NAME
    if file.exists():
        return _parse(_read(file, f"data/{_NAME}"), f"data/{_NAME}"), _NAME, "in the data folder"

    try:  # where an earlier download was kept because the data folder is read-only
        content = (places.cache_folder() / _NAME).read_bytes()
        frame = _parse(content, _NAME)
        if fingerprint(frame) == places.expected:
            return frame, _NAME, "in the cache folder"
    except (OSError, DataError):
        pass  # the cache is only ever our own copy: fetch a new one

    content = _fetch_and_keep(places)
    if content is not None:
        return _parse(content, _NAME), _NAME, "downloaded"
    return (
        _parse(_read(places.data / _STAND_IN, f"data/{_STAND_IN}"), _STAND_IN),
        _STAND_IN,
        "the synthetic stand-in",
    )


def _load(path: str | os.PathLike[str] | None, places: _Places) -> pd.DataFrame:
    frame, name, where = _find(path, places)
    canonical = fingerprint(frame) == places.expected
    rows = f"{len(frame)} rows"
    if canonical:  # one text wherever it came from: stored outputs are compared
        source, notice = f"the real table ({where})", f"the real Social_Network_Ads table, {rows}."
    elif where == "the synthetic stand-in":
        source = where
        notice = f"{where}, {rows} (the real table was not found; see data/README.md). "
        notice += "Figures differ from the documented ones."
    else:
        source = f"{name} ({where})"
        notice = f"{name}, {rows}: a valid table, but not the canonical one: "
        notice += "documented figures need not reproduce."
    frame.attrs.update(source=source, canonical=canonical)
    print(f"Data: {notice}")
    return frame


def load_ads(path: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Load the advertising table, and print one line that says which table it is.

    Without a path, the table is looked for in this order: the file named by the environment variable
    `ADS_CSV`; `data/Social_Network_Ads.csv`; a copy kept earlier in the user's cache folder; a download from
    pinned public addresses, verified by its content (5 seconds at most; not tried when `BATCHLAB_OFFLINE=1`
    or within a day of a failed attempt); the synthetic stand-in `data/stand_in.csv`.

    Args:
        path: A CSV file with at least the columns `Age`, `EstimatedSalary` and `Purchased`.

    Returns:
        A frame of n rows (the real table: 400) in file order, with the columns `User ID` (int64), `Gender`
        (text), `Age` (int64, years), `EstimatedSalary` (int64, a year's salary in an unnamed currency) and
        `Purchased` (int64, 0 or 1). `User ID` and `Gender` are there only if the file has them: nothing needs
        them, and they are never invented. `attrs["source"]` says in a phrase which data these are,
        `attrs["canonical"]` (bool) whether the three needed columns are exactly those of the real table.

    Raises:
        DataError: If a file that was named, or found in the data folder, is absent, unreadable or not a valid
            table. There is no silent fallback from a file that somebody chose.
    """
    return _load(path, _Places())
