"""Study a table of one's own: `make study DATA=path TARGET=column` writes build/study/NAME.html.

The report comes from notebooks/11_your_own_data.ipynb, run with these parameters; its executed copy lies beside it.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path
from typing import get_args

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from batchlab.table.own import Kind, Missing, read_table  # noqa: E402
from batchlab.table.schema import DataError  # noqa: E402

NOTEBOOK = ROOT / "notebooks" / "11_your_own_data.ipynb"


def main(arguments: list[str] | None = None) -> int:
    """Check the table, run the notebook, and say where the report is.

    Args:
        arguments: Command line without the program's name; None takes the process's own.

    Returns:
        Exit status: 0, or 2 where the table cannot be used or nothing can be learned from it.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="a CSV or Parquet file")
    parser.add_argument("target", help="the column to be predicted")
    parser.add_argument("--missing", choices=get_args(Missing), default="refuse", help="what to do about missing cells")
    parser.add_argument("--drop", action="append", default=[], help="a column to leave out; may be repeated")
    parser.add_argument("--kind", choices=get_args(Kind), help="what the target is; guessed without it")
    parser.add_argument("--aim", choices=("seconds", "updates", "rows"), default="seconds", help="what shall be least")
    parser.add_argument("--dropout", type=float, default=0.0, help="share of the hidden units that a step drops")
    parser.add_argument("--batch-normalization", action="store_true", help="normalise the hidden units by their batch")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "study", help="where the report goes")
    options = parser.parse_args(arguments)

    start = time.perf_counter()
    if not options.data.name or not options.target:
        print("Name a file and a column: make study DATA=path TARGET=column", file=sys.stderr)
        return 2
    try:  # in a second, and without a notebook's traceback around the complaint
        table = read_table(options.data, options.target, missing=options.missing, drop=options.drop, kind=options.kind)
    except DataError as error:
        print(_as_typed(str(error)), file=sys.stderr)
        return 2
    for warning in table.warnings:
        print(f"Mind: {_as_typed(warning)}")
    print("The table can be used. Training takes minutes, one or two for a small one:", flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    report = (options.output / f"{options.data.stem}.html").resolve()
    report.unlink(missing_ok=True)  # that of an earlier run must not pass for this one's
    parameters = {
        "DATA": str(options.data.expanduser().resolve()),
        "TARGET": options.target,
        "MISSING": options.missing,
        "DROP": options.drop,
        "KIND": options.kind,
        "AIM": options.aim,
        "DROPOUT": options.dropout,
        "BATCH_NORMALIZATION": options.batch_normalization,
        "REPORT": str(report),
    }
    failure = execute(parameters, report.with_suffix(".ipynb"))
    if failure:
        print(failure, file=sys.stderr)
        return 2
    print(f"{_shown(report)}: written in {time.perf_counter() - start:.0f} s.")
    print(f"{_shown(report.with_suffix('.ipynb'))}: the notebook behind it.")
    return 0


def execute(parameters: dict[str, object], copy: Path) -> str | None:
    """Run the notebook with these parameters; return what went wrong, or None."""
    import papermill  # takes a second

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        papermill.execute_notebook(
            NOTEBOOK,
            copy,
            parameters=parameters,
            kernel_name="python3",
            progress_bar=False,
            cwd=NOTEBOOK.parent,
            extra_arguments=["--log-level=ERROR"],  # else the kernel warns of its own way to talk to this process
            stdout_file=_Progress(),
        )
    except papermill.PapermillExecutionError as error:
        return f"{error.evalue}\n(in code cell {error.exec_count} of {_shown(copy)})"
    return None


class _Progress:
    """Of what the notebook's cells print, the lines of `study_table`, which begin with its seconds."""

    def __init__(self) -> None:
        self._begun = ""

    def write(self, text: str) -> None:
        """Take what was printed, which need not end with a line."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            if re.match(r" *\d+ s  ", line):
                print(line)

    def flush(self) -> None:
        """Show it now."""
        sys.stdout.flush()


def _as_typed(complaint: str) -> str:
    """A complaint or a warning with this command's options in place of the function's arguments."""
    typed, count = re.subn(r'\b(missing|kind)="', r'--\1="', complaint)
    return typed + (" With make, options go into OPTIONS='…'." if count else "")


def _shown(path: Path) -> str:
    """The path as a reader would type it: relative when it is below the current folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


if __name__ == "__main__":
    sys.exit(main())
