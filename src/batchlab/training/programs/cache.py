"""Compiled programs, kept for the next model of the same structure, and lent to one user at a time. Never trains.

A program keeps its state in variables, so two threads must never be in one. `lease` hands out a program that nobody
else holds, and makes another one where all are in use.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from batchlab.training.programs.device import device_for
from batchlab.training.rows import Rows
from batchlab.training.subject import Subject, making

_KEPT = 64

_idle: OrderedDict[tuple, list] = OrderedDict()  # by key, the key used last at the end
_lock = threading.Lock()


@contextmanager
def lease(kind: type, subject: Subject, batch_size: int, train: Rows, valid: Rows | None, **extra: int) -> Iterator:
    """Lend a program of this kind that fits the model and the data, compiled already if one was used before.

    Args:
        kind: The class of the program.
        subject: What is to be trained.
        batch_size: Rows of a batch.
        train: The training rows.
        valid: The validation rows.
        **extra: Further numbers that a program is made for.
    """
    # A program that works on the user's own model runs where that model is.
    device = device_for(subject.model, batch_size, extra.get("runs", 1)) if subject.shared else None
    key = (kind, *subject.key, device, batch_size, train.signature(), valid and valid.signature(), *extra.items())
    with _lock:
        waiting = _idle.get(key)
        program = waiting.pop() if waiting else None
    if program is None:
        with making, tf.device(device):
            program = kind(subject, batch_size, train, valid, **extra)
    try:
        yield program
    finally:
        with _lock:
            _idle.setdefault(key, []).append(program)
            _idle.move_to_end(key)
            while sum(map(len, _idle.values())) > _KEPT:
                oldest = next(iter(_idle))
                if _idle[oldest]:
                    _idle[oldest].pop(0)
                if not _idle[oldest]:
                    del _idle[oldest]
