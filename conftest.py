"""How the notebooks are checked: strictly on the real table where it is, with their own assertions elsewhere.

Stored outputs come from the real table, so only there can they be compared. Everywhere else the notebooks run
on the committed stand-in, and the assertions in them are what is checked. The thorough run does both, one after the
other in one kernel.
"""

import os
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psutil
import pytest
from nbval.plugin import IPyNbCell, IPyNbFile, find_comment_markers, find_metadata_tags

# Of a process that tests: what XLA compiled stays there until it ends. Having grown so far it begins no further file,
# since one leaves up to 0.7 GiB behind and holds up to 1.3 for a while.
ENOUGH_BYTES = 2**31
MOST_BYTES = 2**32
LEFT = pytest.StashKey[list[str]]()
PROGRAMS = pytest.StashKey[str]()
TABLE = pytest.StashKey[Path | None]()
REAL_TABLES = ("../shared/data/Social_Network_Ads.csv", "data/Social_Network_Ads.csv")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `make test-thorough` asks for."""
    parser.addoption("--thorough", action="store_true", help="run notebooks on the stand-in too")
    parser.addoption("--left", type=Path, help="begin no file once memory is short, and write here which those are")


def pytest_configure(config: pytest.Config) -> None:
    """Export the table that kernels will use; share compiled programs in this run."""
    if not os.environ.get("TF_XLA_FLAGS"):
        # Kernels inherit it: what one has compiled the others need not, and no user's cache is touched.
        config.stash[PROGRAMS] = tempfile.mkdtemp(prefix="batchlab-")
        os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={config.stash[PROGRAMS]}"
    os.environ["BATCHLAB_OFFLINE"] = "1"  # kernels inherit it, and ADS_CSV
    config.stash[TABLE] = real = real_table(config.rootpath)
    os.environ["ADS_CSV"] = str(real or stand_in(config))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "Notebook | None":
    """Collect notebooks, unless nbval itself was asked to."""
    if file_path.suffix != ".ipynb" or parent.config.option.nbval or parent.config.option.nbval_lax:
        return None
    return Notebook.from_parent(parent, path=file_path)


class Notebook(IPyNbFile):
    """The code cells of a notebook, as tests that share a kernel."""

    def collect(self) -> Iterator[IPyNbCell]:
        """Yield the cells: compared with their stored outputs on the real table, otherwise only executed."""
        self.nb = nbformat.read(self.path, as_version=4)
        cells = [cell for cell in self.nb.cells if cell.cell_type == "code"]
        strict = self.config.stash[TABLE] is not None
        yield from self._tests(cells, "", check=strict)
        reads_the_table = any("load_ads(" in cell.source for cell in cells)
        if strict and self.config.option.thorough and reads_the_table:
            # A new beginning in the same kernel: nothing is imported or compiled twice.
            change = f'%reset -f\nimport os\nos.environ["ADS_CSV"] = {str(stand_in(self.config))!r}\n%reset -f'
            yield from self._tests([nbformat.v4.new_code_cell(change), *cells], "stand-in, ", check=False)

    def _tests(self, cells: list[nbformat.NotebookNode], prefix: str, *, check: bool) -> Iterator[IPyNbCell]:
        for number, cell in enumerate(cells):
            options = defaultdict(bool, find_metadata_tags(cell.metadata)) | dict(find_comment_markers(cell.source))
            options.setdefault("check", check)
            name = f"{prefix}Cell {number}"
            yield IPyNbCell.from_parent(self, name=name, cell_num=number, cell=cell, options=options)


def stand_in(config: pytest.Config) -> Path:
    """The committed table that stands in for the real one."""
    return config.rootpath / "data" / "stand_in.csv"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Leave the files that follow to another process once this one has grown."""
    done = yield
    if item.config.option.left and nextitem and nextitem.path != item.path and held_bytes() > ENOUGH_BYTES:
        after = item.session.items[item.session.items.index(nextitem) :]
        item.config.stash[LEFT] = left = list(dict.fromkeys(test.nodeid.partition("::")[0] for test in after))
        item.config.option.left.write_text("\n".join(left), encoding="utf-8")
        item.session.shouldstop = f"{len(left)} files are left to another process"
    return done


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where the process has grown beyond its limit; do not where it has left files to another one."""
    if LEFT in session.config.stash:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED if session.testsfailed else pytest.ExitCode.OK
    if peak_bytes() > MOST_BYTES and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much memory the process took."""
    if peak := peak_bytes():
        beyond = "" if peak <= MOST_BYTES else f", beyond the limit of {MOST_BYTES / 2**20:.0f}"
        terminalreporter.write_line(f"peak memory of this process: {peak / 2**20:.0f} MiB{beyond}")


def held_bytes() -> int:
    """The memory that this process holds."""
    return psutil.Process().memory_info().rss


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
    real = config.stash[TABLE] is not None
    return f"notebooks: {'compared with their outputs, on the real table' if real else 'executed, on the stand-in'}"
