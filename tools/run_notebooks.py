"""Execute every notebook, keep going when one fails, and print documented figures beside measured ones.

`make run` calls it. Executed copies go to build/notebooks; the committed notebooks stay as they are.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from asyncio import CancelledError
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
TABLE_TAG = "documented-against-measured"


def main(arguments: list[str] | None = None) -> int:
    """Run the notebooks and report.

    Args:
        arguments: Command line without the program's name; None takes the process's own.

    Returns:
        Exit status: 0 when every notebook ran to its end, 1 when one failed, 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="notebooks to run, as 02_batch_size_1; all of them by default")
    parser.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", help="folder to read")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "notebooks", help="where copies go")
    options = parser.parse_args(arguments)

    paths = sorted(options.notebooks.glob("*.ipynb"))
    if not paths:
        parser.error(f"there are no notebooks in {_shown(options.notebooks)}")
    if unknown := set(options.names) - {path.stem for path in paths}:
        parser.error(f"{_shown(options.notebooks)} has no notebook named {', '.join(sorted(unknown))}")
    if options.names:
        paths = [path for path in paths if path.stem in options.names]

    # Kernels inherit it: TensorFlow's C++ lines would otherwise stand between the results.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return _run_all(paths, options.output)
    except KeyboardInterrupt:
        print("\nInterrupted: the remaining notebooks were not run.")
        return 130


def _run_all(paths: list[Path], output: Path) -> int:
    output.mkdir(parents=True, exist_ok=True)
    copies: list[Path] = []
    tables: dict[str, list[str]] = {}
    sources: dict[str, None] = {}  # in the order of their first appearance
    failures: dict[str, str] = {}
    for number, path in enumerate(paths, start=1):
        print(f"[{number}/{len(paths)}] {path.stem} ... ", end="", flush=True)
        start = time.perf_counter()
        copy = output / path.name
        copy.unlink(missing_ok=True)  # a copy from an earlier run must not pass for this one's
        try:
            notebook = _read(path)
        except ValueError as error:
            failures[path.stem] = str(error)
        else:
            failure = _execute(notebook, path.parent)
            if failure:
                failures[path.stem] = failure
            nbformat.write(notebook, copy)
            copies.append(copy)
            tables[path.stem] = _tables(notebook)
            sources |= dict.fromkeys(_sources(notebook) if tables[path.stem] else ())
        print(f"{time.perf_counter() - start:.1f} s{', failed' * (path.stem in failures)}", flush=True)

    if any(tables.values()):
        print("\nDocumented against measured")
    for source in sources:  # which table the figures come from: on another one they differ, and nothing has failed
        print(source)
    for stem, texts in tables.items():
        for text in texts:
            print(f"\n{stem}\n{text}")
    print("\nOpen the executed copies, or the notebooks themselves with `make lab`:")
    for copy in copies:
        print(f"  {_shown(copy)}")
    if failures:
        print(f"\n{len(failures)} of {len(paths)} notebooks failed:")
        for stem, failure in failures.items():
            print(f"  {stem}: {failure}")
    return 1 if failures else 0


def _read(path: Path) -> NotebookNode:
    """Read a notebook without its stored outputs, so that nothing old can pass for measured."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat raises whatever the broken content happens to cause
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"is not a valid notebook ({reason[:100]})") from error
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
            cell.execution_count = None
    return notebook


def _execute(notebook: NotebookNode, folder: Path) -> str | None:
    """Execute in place, in a kernel of this interpreter; return what failed, or None."""
    cells_begun = 0

    def begin_cell(cell: NotebookNode, **_: object) -> None:
        nonlocal cells_begun
        cells_begun += cell.cell_type == "code"

    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=None,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=begin_cell,
    )
    try:
        # Whatever the kernel's process itself writes is noise; its cells' output travels in messages.
        client.execute(stderr=subprocess.DEVNULL)
    except CellExecutionError as error:
        message = f"{error.ename}: {error.evalue}" if error.evalue else error.ename
        return f"code cell {cells_begun}: {message}"
    except (Exception, CancelledError) as error:  # not even a kernel that fails to start stops the others
        # nbclient answers Ctrl-C by ending the kernel, and this attribute is all that tells it from a crash.
        if hasattr(client, "_async_cleanup_kernel_future"):
            raise KeyboardInterrupt from error
        if isinstance(error, DeadKernelError):
            return f"code cell {cells_begun}: the kernel died"
        return f"{type(error).__name__}: {error}"
    return None


def _tables(notebook: NotebookNode) -> list[str]:
    return [
        output.data["text/plain"]
        for cell in notebook.cells
        if TABLE_TAG in cell.metadata.get("tags", [])
        for output in cell.get("outputs", [])
        if "text/plain" in output.get("data", {})
    ]


def _sources(notebook: NotebookNode) -> list[str]:
    """The lines in which the notebook says which table it works on."""
    return [
        line
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stdout"
        for line in output.text.splitlines()
        if line.startswith("Data: ")
    ]


def _shown(path: Path) -> str:
    """The path as a reader would type it: relative when it is below the current folder."""
    absolute = path.resolve()
    return str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else path)


if __name__ == "__main__":
    sys.exit(main())
