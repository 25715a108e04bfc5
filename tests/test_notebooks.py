"""What every committed notebook keeps to, and that all of them run on the stand-in.

Each rule is a function from a notebook to its breaches, and each has counter-examples that show it at work.
"""

import ast
import base64
import re
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STAND_IN = ROOT / "data" / "stand_in.csv"

FIGURE_KB, BESIDES_KB, EACH_KB = 75, 100, 320  # on average; every run adds as much to the history
LINES = 25  # of a code cell: what a reader takes in at a glance
CLOSE = 3  # code cells between output and the assertion that bounds it

IMAGES = {"image/png", "image/jpeg", "image/svg+xml"}
PLACES = r"/(?:home|root|tmp|Users|work|private|var/folders)/|[A-Za-z]:\\+(?:Users|Temp)\b"
MACHINE_PATH = re.compile(rf"(?<![\w.~-])(?:{PLACES})|ipykernel_\d+")
# By its form: the options and variables that name an index, the address of one, of a package or of a file there,
# and addresses with a password.
PACKAGE_INDEX = re.compile(
    r"index[-_]url|find[-_]links|(?:pip|uv)_(?:default_)?index|registry[ ]*="
    r"|[a-z]://[^\s\"']*/(?:simple|project|pypi|packages)(?![\w.-])|[a-z]://[^\s\"']*[.](?:whl|tar[.]gz|zip)(?!\w)"
    r"|[a-z]://[^\s/@]+:[^\s/@]*@",
    re.IGNORECASE,
)


# --- reading a notebook ------------------------------------------------------------------------------


def code_cells(notebook):
    """Code cells with the names that a reader gives them: code cell 1, code cell 2, ..."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [(f"code cell {number}", cell) for number, cell in enumerate(cells, start=1)]


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def prose(notebook) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def tree(cell) -> ast.Module:
    return parsed(cell.source)


@cache
def parsed(source: str) -> ast.Module:
    return ast.parse(TransformerManager().transform_cell(source))  # IPython's magics are not Python


def has_assert(cell) -> bool:
    return bool(assertions(cell))


def assertions(cell) -> list[ast.expr]:
    """What the cell asserts."""
    return [node.test for node in ast.walk(tree(cell)) if isinstance(node, ast.Assert)]


def read_names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}


def owners(target: ast.AST) -> set[str]:
    """The names that an assignment to the target changes: `x` for `x`, `x[0]` and `x.size`."""
    if isinstance(target, ast.Tuple | ast.List):
        return set().union(*map(owners, target.elts))
    while isinstance(target, ast.Attribute | ast.Subscript | ast.Starred | ast.Call):
        target = target.func if isinstance(target, ast.Call) else target.value
    return {target.id} if isinstance(target, ast.Name) else set()


def changes(cell) -> Iterator[tuple[set[str], set[str], bool]]:
    """In order, the names that get a value, the names that the value comes from, and whether a call is part of it."""
    nodes = (node for node in ast.walk(tree(cell)) if hasattr(node, "lineno"))
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset)):
        whole = node
        match node:
            case ast.Assign():
                targets = set().union(*map(owners, node.targets))
            case ast.AugAssign() | ast.AnnAssign() | ast.NamedExpr():
                targets = owners(node.target)
            case ast.For():
                targets, whole = owners(node.target), node.iter
            case ast.With(items=[ast.withitem(context_expr=whole, optional_vars=ast.AST() as target)]):
                targets = owners(target)
            case ast.FunctionDef():
                targets = {node.name}
            case ast.Expr(value=ast.Call(func=ast.Attribute())):  # `rows.append(x)` changes rows
                targets = owners(node.value.func)
            case _:
                continue
        kept = targets if isinstance(node, ast.AugAssign) else set()
        yield targets, read_names(whole) | kept, any(isinstance(part, ast.Call) for part in ast.walk(whole))


def changed_names(cell) -> set[str]:
    return set().union(*(targets for targets, _, _ in changes(cell)))


def shown_names(cell) -> set[str]:
    """The names in what the cell displays or prints."""
    return set().union(*(read_names(node) for node in ast.walk(tree(cell)) if isinstance(node, ast.Expr)))


def computed_names(notebook) -> set[str]:
    """The names whose values come from a call, at once or by way of other names; no modules."""
    computed, modules = set(), {"helpers"}
    for _, cell in code_cells(notebook):
        for node in ast.walk(tree(cell)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        for targets, sources, is_called in changes(cell):
            if is_called or sources & computed:
                computed |= targets
    return computed - modules


def is_always_true(test: ast.expr) -> bool:
    """Whether the form of a test alone makes it true, as far as people write such tests by mistake."""
    match test:
        case ast.Constant():
            return bool(test.value)
        case ast.Tuple() | ast.List() | ast.Set():  # `assert (x == 2, "a message")`
            return bool(test.elts)
        case ast.JoinedStr() | ast.Lambda():
            return True
        case ast.BoolOp(op=ast.Or()):
            return any(map(is_always_true, test.values))
        case ast.BoolOp(op=ast.And()):
            return all(map(is_always_true, test.values))
        case ast.Compare(ops=[ast.Eq() | ast.Is() | ast.LtE() | ast.GtE()], comparators=[other]):
            is_length = re.fullmatch(r"len\(.*\) >= 0", ast.unparse(test))
            return ast.dump(test.left) == ast.dump(other) or bool(is_length)
    return False


def can_fail(test: ast.expr, computed: set[str]) -> bool:
    """Whether a test depends on something that the notebook computes."""
    calls = [node.func for node in ast.walk(test) if isinstance(node, ast.Call)]
    is_about_something = read_names(test) & computed or any("helpers" in owners(called) for called in calls)
    return bool(is_about_something) and not is_always_true(test)


def strings(value) -> Iterator[str]:
    """Every text in a cell, except the bytes of pictures, in which anything may occur by chance."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in {"image/png", "image/jpeg"}:
                yield from strings(item)


def texts_with(pattern: re.Pattern, notebook) -> list[str]:
    return [
        f"cell {number}: {match.group()}"
        for number, cell in enumerate(notebook.cells, start=1)
        for text in strings(cell)
        if (match := pattern.search(text))
    ]


# --- the rules ---------------------------------------------------------------------------------------


def executed_in_order(notebook):
    return [
        f"{name} has execution count {cell.execution_count}"
        for number, (name, cell) in enumerate(code_cells(notebook), start=1)
        if cell.execution_count != number
    ]


def no_errors(notebook):
    return [
        f"{name} raised {output.ename}"
        for name, cell in code_cells(notebook)
        for output in cell.outputs
        if output.output_type == "error" and "raises-exception" not in tags(cell)
    ]


def no_stderr(notebook):
    return [
        f"{name} wrote to stderr: {output.text[:60]}"
        for name, cell in code_cells(notebook)
        for output in cell.outputs
        if output.get("name") == "stderr"
    ]


def no_machine_path(notebook):
    return texts_with(MACHINE_PATH, notebook)


def no_package_index(notebook):
    return texts_with(PACKAGE_INDEX, notebook)


def no_trailing_semicolon(notebook):
    return [
        f"{name}: {line}"
        for name, cell in code_cells(notebook)
        for line in cell.source.splitlines()
        if line.rstrip().endswith(";")
    ]


def figures_have_alt_text(notebook):
    return [
        f"{name} has a figure without alt text of at least 40 characters"
        for name, cell in code_cells(notebook)
        for output in cell.outputs
        for kind in IMAGES & output.get("data", {}).keys()
        if len(output.metadata.get(kind, {}).get("alt", "")) < 40
    ]


def begins_with_one_title(notebook):
    first = notebook.cells[0]
    titles = re.findall(r"^# ", first.source, re.MULTILINE)
    good = first.cell_type == "markdown" and first.source.startswith("# ") and len(titles) == 1
    return [] if good else ["cell 1 is not a title cell: markdown that begins with its one # heading"]


def has_goals_and_recap(notebook):
    return [
        f"there is no {section} heading"
        for section in ("Goals", "Recap")
        if not re.search(rf"^##+ .*\b{section}\b", prose(notebook), re.MULTILINE)
    ]


def begins_with_the_silent_set_up(notebook):
    cells = code_cells(notebook)
    if not cells or "set-up" not in tags(cells[0][1]):
        return ["the first code cell is not the one tagged set-up"]
    return ["the set-up cell has output"] if cells[0][1].outputs else []


def runs_on_plain_python(notebook):
    kernel = notebook.metadata.get("kernelspec", {})
    language = notebook.metadata.get("language_info", {}).get("name")
    found = (kernel.get("name"), kernel.get("display_name", "").removesuffix(" (ipykernel)"), language)
    plain = ("python3", "Python 3", "python")
    return [] if found == plain else [f"the metadata name {found} instead of {plain}"]


def cells_are_short(notebook):
    return [
        f"{name} has {len(cell.source.splitlines())} lines; {LINES} are the limit"
        for name, cell in code_cells(notebook)
        if len(cell.source.splitlines()) > LINES
    ]


def defines_no_class(notebook):
    return [
        f"{name} defines class {node.name}"
        for name, cell in code_cells(notebook)
        for node in ast.walk(tree(cell))
        if isinstance(node, ast.ClassDef)
    ]


def imports_only_helpers_from_here(notebook):
    breaches = []
    for name, cell in code_cells(notebook):
        if "set-up" in tags(cell):
            continue
        for node in ast.walk(tree(cell)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            breaches += [f"{name} imports {module}" for module in modules if module.split(".")[0] == "batchlab"]
    return breaches


def ignored_output_is_asserted(notebook):
    """Output that nbval does not compare is a picture, a duration, or bounded by an assertion close by."""
    named, computed = code_cells(notebook), computed_names(notebook)
    cells = [cell for _, cell in named]
    breaches = []
    for index, (name, cell) in enumerate(named):
        ignored = "nbval-ignore-output" in tags(cell) or "NBVAL_IGNORE_OUTPUT" in cell.source
        only_images = all(IMAGES & output.get("data", {}).keys() for output in cell.outputs)
        bounded = any(
            can_fail(test, computed) and read_names(test) & bound & computed
            for near, bound in bounding(cells, index)
            for test in assertions(near)
        )
        if ignored and not (only_images or bounded or "timing" in tags(cell)):
            breaches.append(f"{name}'s output is ignored, and no assertion within {CLOSE} code cells is about it")
    return breaches


def bounding(cells, index: int) -> list[tuple[nbformat.NotebookNode, set[str]]]:
    """The cells close to one cell, each with the names about which an assertion there bounds what the one cell shows.

    In the cells before, these are the names that it shows unchanged; in itself and after, all that it shows or computes
    and what that was made from; in the cells after, what is made from what it shows or computes, too.
    """
    cell, shown, places = cells[index], shown_names(cells[index]), []
    unchanged = shown - changed_names(cell)
    for before in reversed(cells[max(0, index - CLOSE) : index]):
        places.append((before, set(unchanged)))
        unchanged -= changed_names(before)
    known, parts = shown | changed_names(cell), cells[: index + 1]
    made_from = set().union(*(sources for part in parts for targets, sources, _ in changes(part) if targets & shown))
    places.append((cell, known | made_from))
    for after in cells[index + 1 : index + 1 + CLOSE]:
        for targets, sources, _ in changes(after):
            known = known | targets if sources & known else known - targets
        made_from -= changed_names(after)
        places.append((after, known | made_from))
    return places


def asserts_something(notebook):
    """Every assertion can fail, and there is one."""
    computed = computed_names(notebook)
    tests = [(name, test) for name, cell in code_cells(notebook) for test in assertions(cell)]
    breaches = [
        f"{name}: assert {ast.unparse(test)} cannot fail" for name, test in tests if not can_fail(test, computed)
    ]
    return breaches if tests else ["no cell has an assert"]


def is_valid(notebook):
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        return [str(error).splitlines()[0]]
    return []


def weighs_little(notebook):
    """At most 75 KB a figure and 100 KB besides, as a file, in which figures are text and a third larger."""
    pictures = [
        (name, output.data[kind])
        for name, cell in code_cells(notebook)
        for output in cell.outputs
        for kind in IMAGES & output.get("data", {}).keys()
    ]
    breaches = [
        f"{name} has a figure of {3 / 4000 * len(picture):.0f} KB; {FIGURE_KB} are the limit"
        for name, picture in pictures
        if 3 / 4000 * len(picture) > FIGURE_KB
    ]
    weight, limit = len(nbformat.writes(notebook).encode()) / 1000, FIGURE_KB * len(pictures) + BESIDES_KB
    if weight > limit:
        breaches.append(f"it weighs {weight:.0f} KB; with {len(pictures)} figures {limit} are the limit")
    return breaches


def keeps_no_clock(notebook):
    """The times at which cells ran differ at every run and tell a reader nothing."""
    return [f"{name} keeps when it ran" for name, cell in code_cells(notebook) if "execution" in cell.metadata]


RULES = [
    executed_in_order,
    no_errors,
    no_stderr,
    no_machine_path,
    no_package_index,
    no_trailing_semicolon,
    figures_have_alt_text,
    begins_with_one_title,
    has_goals_and_recap,
    begins_with_the_silent_set_up,
    runs_on_plain_python,
    cells_are_short,
    defines_no_class,
    imports_only_helpers_from_here,
    ignored_output_is_asserted,
    asserts_something,
    weighs_little,
    keeps_no_clock,
    is_valid,
]


# --- the committed notebooks -------------------------------------------------------------------------


def test_there_are_notebooks():
    assert NOTEBOOKS, "notebooks/ is empty, so nothing below would be checked"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, rule):
    breaches = rule(nbformat.read(path, as_version=4))
    assert not breaches, f"{path.name}: " + "; ".join(breaches)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_file_ends_with_one_newline(path):
    assert re.search(rb"[^\n]\n\Z", path.read_bytes())


def test_all_together_weigh_little():
    together = sum(path.stat().st_size for path in NOTEBOOKS) / 1000
    limit = EACH_KB * len(NOTEBOOKS)
    assert together < limit, f"the notebooks weigh {together:.0f} KB; {limit} are the limit"


def test_set_up_cells_are_identical():
    by_source = {}
    for path in NOTEBOOKS:
        _, cell = code_cells(nbformat.read(path, as_version=4))[0]
        by_source.setdefault((cell.source, *tags(cell)), []).append(path.name)
    assert len(by_source) == 1, f"set-up cells differ between {list(by_source.values())}"


# --- the rules at work -------------------------------------------------------------------------------


def figure(alt: str = "A figure whose description is at least forty long.", kb: float = 0.003):
    picture = base64.b64encode(bytes(round(1000 * kb))).decode()
    return new_output("display_data", data={"image/png": picture}, metadata={"image/png": {"alt": alt}})


@pytest.fixture
def good():
    """A notebook that keeps to every rule."""
    notebook = new_notebook(
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"},
            "language_info": {"name": "python"},
        },
        cells=[
            new_markdown_cell("# Title\n\n## Goals\n\nSee https://example.org/home/page."),
            new_code_cell("import batchlab", metadata={"tags": ["set-up"]}),
            new_code_cell("%time 1 + 1", outputs=[figure(kb=74)]),
            new_code_cell("x = sum([1, 1])\nx", outputs=[new_output("execute_result", data={"text/plain": "2"})]),
            new_code_cell("assert x == 2"),
            new_markdown_cell("## Recap"),
        ],
    )
    for number, (_, cell) in enumerate(code_cells(notebook), start=1):
        cell.execution_count = number
    return notebook


def stream(name: str, text: str):
    return new_output("stream", name=name, text=text)


def error():
    return new_output("error", ename="ValueError", evalue="no", traceback=[])


def put(position: int, field: str, value):
    """A change that sets one field of one cell."""
    return lambda notebook: notebook.cells[position].__setitem__(field, value)


def tagged_as_ignored(notebook, after: str = "x"):
    notebook.cells[3].metadata["tags"] = ["nbval-ignore-output"]
    notebook.cells[4].source = after


def ignored_before(after: str):
    """A change after which the output of one cell is ignored, and the next one reads so."""
    return lambda notebook: tagged_as_ignored(notebook, after)


def ignored_by_comment(notebook):
    notebook.cells[3].source = "# NBVAL_IGNORE_OUTPUT\nx"
    notebook.cells[4].source = "x"


def without_kernel(notebook):
    del notebook.metadata["kernelspec"]


def with_own_kernel(notebook):
    notebook.metadata["kernelspec"]["display_name"] = "my-environment"


def joined(text):
    """The text without its spaces."""
    return text.replace(" ", "")


def test_no_tracked_file_names_a_package_index():
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]
    assert len(files) > 100
    found = {}
    for file in files:
        match = PACKAGE_INDEX.search(file.read_text(encoding="utf-8", errors="replace"))
        if match:
            found[str(file.relative_to(ROOT))] = match[0]
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "https://github.com/owner/name/blob/main/notebooks/00_start_here.ipynb",
        "https://arxiv.org/abs/1609.04836, a simple index of packages",
        "git@github.com:owner/name.git",
        "registry of the layers; index, url and links",
    ],
)
def test_other_addresses_are_free(text):
    assert not PACKAGE_INDEX.search(text)


COUNTER_EXAMPLES = [
    (executed_in_order, put(3, "execution_count", 7)),
    (executed_in_order, put(3, "execution_count", None)),
    (no_errors, put(3, "outputs", [error()])),
    (no_stderr, put(3, "outputs", [stream("stderr", "a warning")])),
    (no_machine_path, put(3, "source", "read('/home/ada/table.csv')")),
    (no_machine_path, put(0, "source", "# Title\n\nSee `/Users/ada/x`.")),
    (no_machine_path, put(3, "outputs", [stream("stdout", "C:\\Users\\ada")])),
    (no_machine_path, put(3, "outputs", [stream("stdout", "in /tmp/x")])),
    (no_machine_path, put(3, "outputs", [stream("stdout", "ipykernel_123/4.py")])),
    # With a gap each, since no tracked file may hold one, this file included.
    (no_package_index, put(3, "source", joined("%pip install --index -url https://a.example"))),
    (no_package_index, put(3, "source", joined("PIP_EXTRA_INDEX _URL=https://a.example"))),
    (no_package_index, put(3, "source", joined("UV_DEFAULT_ INDEX=https://a.example"))),
    (no_package_index, put(3, "source", joined("npm config set regis try=https://a.example"))),
    (no_package_index, put(0, "source", "# Title\n\n" + joined("https:// a.example/project/x"))),
    (no_package_index, put(0, "source", "# Title\n\n" + joined("file:// /opt/mirror/simple/"))),
    (no_package_index, put(3, "source", joined("https:// a.example/x-1.0-py3-none-any.whl"))),
    (no_package_index, put(3, "outputs", [stream("stdout", joined("https:// ada:secret@a.example/"))])),
    (no_trailing_semicolon, put(3, "source", "x;")),
    (no_trailing_semicolon, put(3, "source", "x; \ny")),
    (figures_have_alt_text, put(3, "outputs", [figure("")])),
    (figures_have_alt_text, put(3, "outputs", [figure("Too short.")])),
    (begins_with_one_title, put(0, "source", "Title\n\n## Goals")),
    (begins_with_one_title, put(0, "source", "# One\n\n# Two\n\n## Goals")),
    (has_goals_and_recap, put(5, "source", "The end, without a Recap heading")),
    (has_goals_and_recap, put(0, "source", "# Title")),
    (begins_with_the_silent_set_up, put(1, "metadata", nbformat.from_dict({}))),
    (begins_with_the_silent_set_up, put(1, "outputs", [stream("stdout", "Cloning")])),
    (runs_on_plain_python, without_kernel),
    (runs_on_plain_python, with_own_kernel),
    (cells_are_short, put(3, "source", "x\n" * 26)),
    (defines_no_class, put(3, "source", "class Layer:\n    pass")),
    (imports_only_helpers_from_here, put(3, "source", "from batchlab.data import load_ads")),
    (imports_only_helpers_from_here, put(3, "source", "import batchlab.training as training")),
    (ignored_output_is_asserted, tagged_as_ignored),
    (ignored_output_is_asserted, ignored_by_comment),
    (ignored_output_is_asserted, ignored_before("assert True")),
    (ignored_output_is_asserted, ignored_before("assert len([x]) >= 0")),
    (ignored_output_is_asserted, ignored_before("y = sum([2])\nassert y == 2")),  # of something else
    (ignored_output_is_asserted, ignored_before("x = sum([2])\nassert x == 2")),  # it is no longer what was shown
    (asserts_something, put(4, "source", "x == 2")),
    (asserts_something, put(4, "source", "assert True")),
    (asserts_something, put(4, "source", "assert 1 == 1")),
    (asserts_something, put(4, "source", "assert not False, x")),
    (asserts_something, put(4, "source", "assert (x == 3, 'a message')")),
    (asserts_something, put(4, "source", "assert f'{x}'")),
    (asserts_something, put(4, "source", "assert x == x")),
    (asserts_something, put(4, "source", "assert x == 3 or True")),
    (asserts_something, put(4, "source", "assert len([x]) >= 0 and x <= x")),
    (asserts_something, put(4, "source", "limit = 2\nassert limit < 3")),  # of what it was set to
    (asserts_something, put(3, "source", "assert x == 2\nassert True")),  # another one that can fail makes it no better
    (weighs_little, put(3, "outputs", [figure(kb=75.1)])),
    (weighs_little, put(3, "outputs", [stream("stdout", 100_000 * "x")])),
    (weighs_little, put(3, "outputs", 5 * [figure(kb=74)])),  # each within its limit, but a third more as text
    (keeps_no_clock, put(3, "metadata", nbformat.from_dict({"execution": {"iopub.status.idle": "2026-01-01"}}))),
    (is_valid, put(3, "execution_count", "three")),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_accepts_a_good_notebook_and_has_a_counter_example(rule, good):
    assert rule(good) == []
    assert rule in [example[0] for example in COUNTER_EXAMPLES]


@pytest.mark.parametrize(("rule", "spoil"), COUNTER_EXAMPLES, ids=lambda part: getattr(part, "__name__", ""))
def test_rule_refuses(rule, spoil, good):
    bad = deepcopy(good)
    spoil(bad)
    assert rule(bad)


@pytest.mark.parametrize(
    ("before", "ignored", "after"),
    [
        ("", "assert x == 2\nx", ""),
        ("", "x", "assert x == 2"),
        ("", "y = [x]\nprint(y)", "assert y[0] == 2"),
        ("", "print(f'about {x}')", "z = [x]\nz.append(1)\nassert z[0] == 2"),  # what was made from it
        ("assert x == 2", "print(x)", ""),
        ("z = [x]", "assert x == 2\nz", ""),  # what it was made from
    ],
)
def test_an_assertion_close_by_bounds_what_is_shown(before, ignored, after, good):
    shown = new_code_cell(ignored, metadata={"tags": ["nbval-ignore-output"]}, outputs=[stream("stdout", "2")])
    good.cells[4:5] = [new_code_cell(before), shown, new_code_cell(after)]
    assert ignored_output_is_asserted(good) == []


@pytest.mark.parametrize(
    ("rule", "tag", "change"),
    [
        (no_errors, "raises-exception", put(3, "outputs", [error()])),
        (ignored_output_is_asserted, "timing", tagged_as_ignored),
    ],
)
def test_a_tag_makes_the_exception(rule, tag, change, good):
    change(good)
    assert rule(good)
    good.cells[3].metadata["tags"] = [*tags(good.cells[3]), tag]
    assert rule(good) == []
