"""What an argument may be: one wording for all complaints about numbers."""

from __future__ import annotations

import math
import numbers


def whole_number(value: object, name: str, least: int, most: int | None = None) -> int:
    """Return the value as int.

    Raises:
        TypeError: It is not a whole number.
        ValueError: It is below the least one allowed, or above the most.
    """
    limits = f"of at least {least}" if most is None else f"from {least} to {most}"
    complaint = f"`{name}` is {value!r}; give a whole number {limits}."
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(complaint)
    if value < least or (most is not None and value > most):
        raise ValueError(complaint)
    return int(value)


def positive_number(value: object, name: str) -> float:
    """Return the value as float.

    Raises:
        TypeError: It is not a real number.
        ValueError: It is not above 0, or not finite.
    """
    complaint = f"`{name}` is {value!r}; give a finite number above 0."
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(complaint)
    if not 0 < value < math.inf:
        raise ValueError(complaint)
    return float(value)
