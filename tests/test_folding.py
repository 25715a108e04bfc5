"""Which cells of the notebooks are folded: those that only draw, and the set-up; never what a reader needs to see.

A folded cell carries two marks: the tag `hide-input`, for MyST-NB and so the web book, and `jupyter.source_hidden` in
its metadata, for JupyterLab.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from test_notebooks import NOTEBOOKS, code_cells, has_assert, tags, tree

SHORT = 3  # lines that are read sooner than unfolded
DRAWS = ("helpers.show", "helpers.sliders")
STATES = ("helpers.verdict", "helpers.answer")


# --- reading a cell ----------------------------------------------------------------------------------


def calls(cell) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree(cell)) if isinstance(node, ast.Call)}


def defined(cell) -> set[str]:
    """The names that a cell leaves behind."""
    names, nodes = set(), list(tree(cell).body)
    inner = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif not isinstance(node, inner):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            nodes += ast.iter_child_nodes(node)
    return names


def needed(cells, folder: Path) -> list[set[str]]:
    """For each cell the names that it takes from earlier ones: those that it would lack on its own, says ruff."""
    for number, cell in enumerate(cells):
        source = TransformerManager().transform_cell(cell.source)  # IPython's magics are not Python
        (folder / f"{number}.py").write_text(source, encoding="utf-8")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select=F821"]
    said = subprocess.run([*command, "--output-format=json", folder], capture_output=True, text=True)
    names = [set() for _ in cells]
    for finding in json.loads(said.stdout):
        names[int(Path(finding["filename"]).stem)].add(finding["message"].split("`")[1])
    return names


def used_from(index: int, cells, wanted: list[set[str]]) -> list[int]:
    """The later cells that need a name as this cell leaves it."""
    users, left = [], defined(cells[index])
    for later in range(index + 1, len(cells)):
        if left & wanted[later]:
            users.append(later)
        left -= defined(cells[later])
    return users


# --- the rules ---------------------------------------------------------------------------------------


def is_folded(cell) -> bool:
    return "hide-input" in tags(cell)


def is_marked_twice_or_not_at_all(notebook, folder):
    return [
        f"{name} has only one of the tag hide-input and jupyter.source_hidden"
        for name, cell in code_cells(notebook)
        if is_folded(cell) != (cell.metadata.get("jupyter", {}).get("source_hidden") is True)
    ]


def what_only_draws_is_folded(notebook, folder):
    """A cell is folded if it draws and neither proves nor states anything nor computes what cells in view need."""
    named = code_cells(notebook)
    cells = [cell for _, cell in named]
    wanted = needed(cells, folder)
    only_draw = {
        index
        for index, cell in enumerate(cells)
        if len(cell.source.splitlines()) > SHORT
        and calls(cell) & set(DRAWS)
        and not (calls(cell) & set(STATES) or has_assert(cell) or "exercise" in tags(cell))
    }
    # A name may pass from one drawing to the next. Backwards, since a drawing that stays in view needs names too.
    for index in sorted(only_draw, reverse=True):
        if not only_draw.issuperset(used_from(index, cells, wanted)):
            only_draw.remove(index)
    breaches = []
    for index, (name, cell) in enumerate(named):
        if "set-up" in tags(cell):
            if not is_folded(cell):
                breaches.append(f"{name}, the set-up, is not folded")
        elif is_folded(cell) != (index in only_draw):
            why = "only draws, and is not" if index in only_draw else "does more than draw, and is"
            breaches.append(f"{name} {why} folded: {cell.source.splitlines()[0]}")
    return breaches


RULES = [is_marked_twice_or_not_at_all, what_only_draws_is_folded]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, rule, tmp_path):
    breaches = rule(nbformat.read(path, as_version=4), tmp_path)
    assert not breaches, f"{path.name}: " + "; ".join(breaches)


# --- the rules at work -------------------------------------------------------------------------------

DRAWING = """
figure, axes = helpers.subplots()
LINE
axes[0].plot(losses)
helpers.show(figure, f"A curve of {last} nats.")
"""
SLIDERS = """
def draw(runs=1):
    return curve(runs), "A curve."


helpers.sliders(draw, runs=[1, 64])
"""


def cell(source: str, *names: str, folded: bool | None = None):
    """A code cell; folded by both marks, or by neither, unless told."""
    hidden = "hide-input" in names if folded is None else folded
    metadata = {"tags": list(names)} | ({"jupyter": {"source_hidden": True}} if hidden else {})
    return new_code_cell(source.strip("\n"), metadata=metadata)


def drawing(*names: str, line: str = "last = losses[-1]", **marks):
    return cell(DRAWING.replace("LINE", line), *names, **marks)


SET_UP = cell("import helpers", "set-up", "hide-input")
FOLDED = drawing("hide-input")


@pytest.mark.parametrize(
    ("cells", "good"),
    [
        ([SET_UP, FOLDED], True),
        ([SET_UP, drawing()], False),
        ([cell("import helpers", "set-up"), FOLDED], False),
        ([SET_UP, drawing(folded=True)], False),
        ([SET_UP, drawing("hide-input", folded=False)], False),
        ([SET_UP, FOLDED, cell("print(last)")], False),  # a cell in view needs what a folded one computes
        ([SET_UP, FOLDED, cell("last = 3\nprint(last)")], True),  # it has one of its own
        ([SET_UP, FOLDED, cell("[last for last in losses]")], True),
        ([SET_UP, drawing(), cell("print(last)")], True),
        ([SET_UP, FOLDED, drawing("hide-input", line="ends = last")], True),  # from drawing to drawing
        ([SET_UP, drawing(), drawing(line="ends = last"), cell("print(ends)")], True),
        ([SET_UP, FOLDED, drawing(line="ends = last"), cell("print(ends)")], False),  # the second one is in view
        ([SET_UP, drawing("hide-input", line="assert losses[-1] < 1")], False),
        ([SET_UP, drawing(line="assert losses[-1] < 1")], True),
        ([SET_UP, drawing("hide-input", line='helpers.verdict("E1", "holds", "It fell.")')], False),
        ([SET_UP, cell("helpers.show(axes, 'A curve.')", "hide-input")], False),  # too short to be folded
        ([SET_UP, cell("losses = train()", "hide-input")], False),
        ([SET_UP, cell("def f():\n    helpers.show()\n    raise Error\n\n\nf()", "exercise")], True),
        ([SET_UP, cell(SLIDERS, "hide-input")], True),
    ],
)
def test_the_rules_tell_good_from_bad(cells, good, tmp_path):
    notebook = new_notebook(cells=[new_markdown_cell("# Title"), *cells])
    assert (not [breach for rule in RULES for breach in rule(notebook, tmp_path)]) == good
