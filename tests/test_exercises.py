"""The machinery of exercises, and that every notebook uses it as it is."""

import re
from pathlib import Path

import nbformat
import numpy as np
import pytest

from batchlab.ideas import exercises

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@exercises.exercise(inputs=[(1.0,), (2.0,), (np.array([3.0, 4.0]),)], tolerance=1e-9)
def twice(x):
    """Return twice the number."""
    # solution
    y = x + x
    return y


@pytest.fixture(autouse=True, scope="module")
def forget_the_example():
    exercises.names()
    yield
    del exercises._EXERCISES["twice"]


# --- the machinery -----------------------------------------------------------------------------------


def test_the_starter_is_what_stands_above_the_solution():
    assert exercises.starter("twice") == (
        'def twice(x):\n    """Return twice the number."""\n    raise NotImplementedError("your turn")\n\n\n'
        "helpers.check_exercise(twice)"
    )


def test_the_solution_is_the_whole_function():
    assert exercises.solution("twice") == (
        'def twice(x):\n    """Return twice the number."""\n    y = x + x\n    return y'
    )


def answer(body):
    body.__name__ = "twice"
    return body


def untouched(x):
    raise NotImplementedError("your turn")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda x: 2 * x, "twice: right for all 3 inputs."),
        (untouched, "twice: your turn."),
        (lambda x: x * x, "twice: right for 1 of 3 inputs. twice(1.0) gives 1.0; expected 2.0."),
        (lambda x: None, "right for 0 of 3 inputs. twice(1.0) gives None; expected 2.0."),
        (lambda x: np.zeros(5), "right for 0 of 3 inputs."),
        (lambda x: 2 * x + 1e-6, "right for 0 of 3 inputs."),
    ],
)
def test_an_answer_is_told_how_it_compares(given, said, capsys):
    exercises.check_exercise(answer(given))
    assert said in capsys.readouterr().out


def test_an_answer_that_spoils_its_arguments_is_compared_on_whole_ones(capsys):
    def spoils(x):
        result = 2 * x
        if isinstance(x, np.ndarray):
            x[:] = 0
        return result

    for _ in range(2):
        exercises.check_exercise(answer(spoils))
    assert capsys.readouterr().out == "twice: right for all 3 inputs.\n" * 2


def test_an_error_in_the_answer_is_the_readers_to_see():
    with pytest.raises(ZeroDivisionError):
        exercises.check_exercise(answer(lambda x: 1 / 0))


def test_a_renamed_answer_is_refused_with_the_names_there_are():
    def thrice(x):
        return x

    with pytest.raises(KeyError, match=r"no exercise 'thrice'.*twice"):
        exercises.check_exercise(thrice)


def test_the_solution_is_shown_folded(shown):
    exercises.show_solution("twice")
    assert shown[0].data["text/markdown"].startswith("<details><summary>Solution</summary>\n\n```python\ndef twice(x):")
    assert shown[0].data["text/plain"] == exercises.solution("twice")


def no_mark(x):
    """Return nothing."""


def no_docstring(x):
    # solution
    return x


@pytest.mark.parametrize(
    ("function", "inputs", "complaint"),
    [
        (no_mark, [(1,), (2,), (3,)], "one line `# solution`"),
        (no_docstring, [(1,), (2,), (3,)], "write a docstring"),
        (twice, [(1,), (2,)], "2 inputs; give at least three"),
    ],
)
def test_an_exercise_that_cannot_serve_is_refused(function, inputs, complaint):
    with pytest.raises(ValueError, match=complaint):
        exercises.exercise(inputs=inputs, tolerance=1e-9)(function)


# --- the exercises -----------------------------------------------------------------------------------

NAMES = [name for name in exercises.names() if name != "twice"]


def test_there_are_exercises():
    assert NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_passes_and_the_starter_does_not(name, capsys):
    for code, said in ((exercises.solution(name), "right for all"), (exercises.starter(name), "your turn")):
        scope = {"np": np, "helpers": exercises}
        exec(code, scope)
        exercises.check_exercise(scope[name])
        assert said in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_a_plausible_wrong_answer_fails(name, capsys):
    solve = exercises._EXERCISES[name].solve

    def wrong(*arguments):
        return 2 * np.asarray(solve(*arguments), dtype=float)

    wrong.__name__ = name
    exercises.check_exercise(wrong)
    assert "right for all" not in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_the_exercises_stand_in_one_notebook_as_they_are_here(name):
    cells = [cell for path in NOTEBOOKS for cell in nbformat.read(path, 4).cells]
    given = [c.source for c in cells if re.search(rf"^helpers\.check_exercise\({name}\)", c.source, re.MULTILINE)]
    assert given == [exercises.starter(name)], "the notebook's starter cell is not the generated one"
    assert sum(f'helpers.show_solution("{name}")' in cell.source for cell in cells) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_has_three(path):
    cells = nbformat.read(path, 4).cells
    given = [cell for cell in cells if "exercise" in cell.metadata.get("tags", [])]
    assert len(given) == 3
    assert all("helpers.check_exercise(" in cell.source for cell in given)
