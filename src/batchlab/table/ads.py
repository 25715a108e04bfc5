"""Where the advertising table comes from: its columns, how it is found, fetched and told from others.

`load_ads` returns the table, or raises a `DataError` that names the file, the row, the column and the mend. Never
scales, never splits. `data/README.md` describes the data.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from batchlab.paths import DATA
from batchlab.table.schema import COUNTABLE, PRESENT, Check, Column, DataError, complaint, parse, read

FEATURES = ("Age", "EstimatedSalary")
TARGET = "Purchased"
_NEEDED = (*FEATURES, TARGET)

_BINARY: Check = (
    lambda text, number: ~number.isin((0, 1)),
    "is neither 0 nor 1",
    "write 1 for bought and 0 for not bought",
)
_SCHEMA = (
    Column("User ID", (PRESENT, *COUNTABLE), is_needed=False, alias="UserID"),
    Column("Gender", (PRESENT,), is_text=True, is_needed=False),
    Column("Age", (PRESENT, *COUNTABLE)),
    Column("EstimatedSalary", (PRESENT, *COUNTABLE)),
    Column(TARGET, (PRESENT, _BINARY)),
)
COLUMNS = tuple(column.name for column in _SCHEMA)

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
_MAX_DOWNLOAD_BYTES = 1_000_000  # the real table has about 11,000
_DAY_SECONDS = 24 * 60 * 60


def _parse(content: bytes, name: str) -> pd.DataFrame:
    """Read and check the bytes of an advertising table.

    Raises:
        DataError: If the content is anything but a valid table.
    """
    frame = parse(content, name, _SCHEMA)
    if (frame[TARGET] == frame[TARGET][0]).all():
        problem = f"every row is {frame[TARGET][0]}, so there is nothing to tell apart"
        raise complaint(name, problem, "use a table with buyers (1) and others (0)", column=TARGET)
    return frame


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
        return _parse(read(file, f"{given} ({how})"), file.name), file.name, how

    file = places.data / _NAME
    if file.exists():
        return _parse(read(file, f"data/{_NAME}"), f"data/{_NAME}"), _NAME, "in the data folder"

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
    if not (places.data / _STAND_IN).exists():
        problem = "no table was found, and the stand-in is not there: it comes with a clone of the repository"
        raise complaint(f"data/{_STAND_IN}", problem, "give the path of a table")
    return (
        _parse(read(places.data / _STAND_IN, f"data/{_STAND_IN}"), _STAND_IN),
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
