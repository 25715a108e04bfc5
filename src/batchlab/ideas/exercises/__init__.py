"""The notebooks' exercises: each is one solved function, from which its starter, its check and its solution come.

A module of this folder holds the exercises of one notebook. In an exercise's function the line `# solution` parts what
the reader is given from what the reader is asked for.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from textwrap import dedent

import numpy as np

from batchlab.display import display_bundle

_MARK = "# solution"
_YOUR_TURN = 'raise NotImplementedError("your turn")'


@dataclass(frozen=True)
class Exercise:
    """A solved function, and how an answer is compared with it."""

    solve: Callable
    inputs: tuple[tuple, ...]  # argument tuples on which answer and solution are compared
    tolerance: float  # absolute and relative


_EXERCISES: dict[str, Exercise] = {}


def exercise(*, inputs: Sequence[tuple], tolerance: float) -> Callable[[Callable], Callable]:
    """Register the decorated function as an exercise under its own name.

    Args:
        inputs: Argument tuples for the check, at least three.
        tolerance: How far an answer may lie from the solution, absolutely and relatively.

    Returns:
        The decorator, which returns the function unchanged.

    Raises:
        ValueError: There are fewer than three inputs, the name is taken, or the function's body has no docstring or
            no `# solution` line.
    """

    def register(solve: Callable) -> Callable:
        name = solve.__name__
        if len(inputs) < 3:
            raise ValueError(f"Exercise {name}: {len(inputs)} inputs; give at least three to compare on.")
        if name in _EXERCISES and _EXERCISES[name].solve.__module__ != solve.__module__:
            raise ValueError(f"Exercise {name}: {_EXERCISES[name].solve.__module__} has one of this name; rename it.")
        if not solve.__doc__ or _lines(solve).count(f"    {_MARK}") != 1:
            raise ValueError(f"Exercise {name}: write a docstring and one line `{_MARK}` below it.")
        _EXERCISES[name] = Exercise(solve, tuple(inputs), tolerance)
        return solve

    return register


def names() -> list[str]:
    """Return the names of all exercises, notebook by notebook in the order of the files."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return list(_EXERCISES)


def starter(name: str) -> str:
    """Return the code that a notebook gives its reader: signature, task, an empty body, and the check.

    Raises:
        KeyError: There is no such exercise.
    """
    lines = _lines(_find(name).solve)
    given = "\n".join(lines[: lines.index(f"    {_MARK}")]).rstrip()
    return f"{given}\n    {_YOUR_TURN}\n\n\nhelpers.check_exercise({name})"


def solution(name: str) -> str:
    """Return the whole function, solved.

    Raises:
        KeyError: There is no such exercise.
    """
    return "\n".join(line for line in _lines(_find(name).solve) if line.strip() != _MARK)


def check_exercise(answer: Callable) -> None:
    """Print how an answer compares with the solution.

    Args:
        answer: The reader's function, which has kept the exercise's name. What it raises is passed on, but for
            the NotImplementedError of an untouched starter.

    Raises:
        KeyError: There is no exercise of this name.
    """
    name = answer.__name__
    found = _find(name)
    wrong = []
    for arguments in found.inputs:
        try:
            given = answer(*deepcopy(arguments))
        except NotImplementedError:
            print(f"{name}: your turn. Replace the line that raises, then run this cell again.")
            return
        expected = found.solve(*deepcopy(arguments))
        if not _alike(given, expected, found.tolerance):
            wrong.append(f"{name}({', '.join(map(repr, arguments))}) gives {given!r}; expected {expected!r}.")
    if not wrong:
        print(f"{name}: right for all {len(found.inputs)} inputs.")
        return
    print(f"{name}: right for {len(found.inputs) - len(wrong)} of {len(found.inputs)} inputs. {wrong[0]}")


def show_solution(name: str) -> None:
    """Display an exercise's solution, folded until the reader opens it.

    Raises:
        KeyError: There is no such exercise.
    """
    code = solution(name)
    folded = f"<details><summary>Solution</summary>\n\n```python\n{code}\n```\n\n</details>"
    display_bundle({"text/markdown": folded, "text/plain": code})


def _find(name: str) -> Exercise:
    if name not in names():
        raise KeyError(f"There is no exercise {name!r}; keep the name of the starter. There are {', '.join(names())}.")
    return _EXERCISES[name]


def _lines(function: Callable) -> list[str]:
    """The function's source without its decorators."""
    lines = dedent(inspect.getsource(function)).splitlines()
    definition = ast.parse("\n".join(lines)).body[0]
    return lines[definition.lineno - 1 :]


def _alike(given: object, expected: object, tolerance: float) -> bool:
    try:
        np.testing.assert_allclose(given, expected, rtol=tolerance, atol=tolerance)
    except (AssertionError, TypeError, ValueError):  # other figures, no figures, another shape
        return False
    return True
