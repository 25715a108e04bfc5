"""How the notebooks are checked: strictly on the real table where it is, with their own assertions elsewhere.

Stored outputs come from the real table, so only there can they be compared. Everywhere else the notebooks run
on the committed stand-in, and the assertions in them are what is checked.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

# What takes longest begins first, so that no worker is left alone with it at the end.
FIRST = ("test_notebooks_on_stand_in.py", "test_fit.py", "08_memoization.ipynb", "test_fit_memory.py")
PROGRAMS = pytest.StashKey[str]()
TABLE = pytest.StashKey[Path | None]()
REAL_TABLES = ("../shared/data/Social_Network_Ads.csv", "data/Social_Network_Ads.csv")


def pytest_configure(config: pytest.Config) -> None:
    """Export the table that kernels will use, and set nbval's mode to match; share compiled programs in this run."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        # Workers and kernels inherit it: what one has compiled the others need not, and no user's cache is touched.
        config.stash[PROGRAMS] = tempfile.mkdtemp(prefix="batchlab-")
        os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={config.stash[PROGRAMS]}"
    os.environ["BATCHLAB_OFFLINE"] = "1"  # kernels inherit it, and ADS_CSV
    config.stash[TABLE] = real = real_table(config.rootpath)
    os.environ["ADS_CSV"] = str(real or config.rootpath / "data" / "stand_in.csv")
    if not (config.option.nbval or config.option.nbval_lax):
        config.option.nbval = real is not None
        config.option.nbval_lax = real is None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first: with --no-loadscope-reorder, workers take the files in this order."""
    place = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path.name, len(FIRST)))


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
