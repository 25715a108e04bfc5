"""How the notebooks are checked: strictly on the real table where it is, with their own assertions elsewhere.

Stored outputs come from the real table, so only there can they be compared. Everywhere else the notebooks run
on the committed stand-in, and the assertions in them are what is checked.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

# Of a process that tests: what XLA compiled stays there until it ends.
MOST_BYTES = 2**31
PROGRAMS = pytest.StashKey[str]()
TABLE = pytest.StashKey[Path | None]()
REAL_TABLES = ("../shared/data/Social_Network_Ads.csv", "data/Social_Network_Ads.csv")


def pytest_configure(config: pytest.Config) -> None:
    """Export the table that kernels will use, and set nbval's mode to match; share compiled programs in this run."""
    if not os.environ.get("TF_XLA_FLAGS"):
        # Kernels inherit it: what one has compiled the others need not, and no user's cache is touched.
        config.stash[PROGRAMS] = tempfile.mkdtemp(prefix="batchlab-")
        os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={config.stash[PROGRAMS]}"
    os.environ["BATCHLAB_OFFLINE"] = "1"  # kernels inherit it, and ADS_CSV
    config.stash[TABLE] = real = real_table(config.rootpath)
    os.environ["ADS_CSV"] = str(real or config.rootpath / "data" / "stand_in.csv")
    if not (config.option.nbval or config.option.nbval_lax):
        config.option.nbval = real is not None
        config.option.nbval_lax = real is None


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where the process has grown beyond its limit."""
    if peak_bytes() > MOST_BYTES and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much memory the process took."""
    if peak := peak_bytes():
        beyond = "" if peak <= MOST_BYTES else f", beyond the limit of {MOST_BYTES / 2**20:.0f}"
        terminalreporter.write_line(f"peak memory of this process: {peak / 2**20:.0f} MiB{beyond}")


def peak_bytes() -> int:
    """The most memory that this process has held; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the compiled programs."""
    if PROGRAMS in config.stash:
        shutil.rmtree(config.stash[PROGRAMS], ignore_errors=True)


def real_table(root: Path) -> Path | None:
    """Find the real table: the file named by ADS_CSV first, unless that is the stand-in."""
    if named := os.environ.get("ADS_CSV"):
        if not Path(named).is_file():
            raise pytest.UsageError("the environment variable ADS_CSV names no file")
        table = Path(named).resolve()
        return None if table == (root / "data" / "stand_in.csv").resolve() else table
    return next(((root / place).resolve() for place in REAL_TABLES if (root / place).is_file()), None)


@pytest.fixture(scope="session")
def real_path(pytestconfig: pytest.Config) -> Path:
    """The real table's file; a test that asks for it is skipped where there is none."""
    return pytestconfig.stash[TABLE] or pytest.skip("the real table is not at hand")


def pytest_report_header(config: pytest.Config) -> str:
    """Say which table is used, and how strictly."""
    mode = "strictly" if config.option.nbval else "by their own assertions"
    stand_in = Path(os.environ["ADS_CSV"]).name == "stand_in.csv"
    return f"notebooks: checked {mode}, on the {'stand-in' if stand_in else 'real table'}"
