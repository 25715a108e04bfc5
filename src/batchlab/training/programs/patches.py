"""TensorFlow's functions in other forms, while a program is traced, for the thread that traces it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from batchlab.training.subject import making


@contextmanager
def replaced(owner: object, name: str, change: Callable[[Callable], Callable]) -> Iterator[None]:
    """Have a function replaced in this thread; others find it as it was, and wait to replace it themselves.

    Args:
        owner: The module that holds it.
        name: Its name there.
        change: Makes the other form from the function.
    """
    with making:
        own, thread = getattr(owner, name), threading.get_ident()
        ours = change(own)

        @wraps(own)
        def chosen(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            return (ours if threading.get_ident() == thread else own)(*arguments, **named)

        setattr(owner, name, chosen)
        try:
            yield
        finally:
            setattr(owner, name, own)
