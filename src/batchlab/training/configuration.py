"""A model's configuration as one text, the same in every process: what a stored run is known by. Never trains."""

from __future__ import annotations

import json
from typing import Any

from batchlab.training import keras_internals as internals
from batchlab.training.subject import Subject


def configuration(subject: Subject) -> str | None:
    """Return all that is configured of a model, initial values too; None if that is not the whole truth.

    It is not where the model has code of its own, or something that its configuration forgets.
    """
    model = subject.model
    if not subject.shared:
        return None
    try:
        config = {"model": model.get_config(), "compiled": model.get_compile_config()}
        config["compiled"]["optimizer"]["config"].pop("name", None)  # counts up: rm_sprop, rm_sprop_1, …
        names = {}
        for layer in internals.layers_of(model):
            names.setdefault(layer.name, f"#{len(names)}")
        return json.dumps(_scrubbed(config, names), sort_keys=True)
    except (_OwnCodeError, NotImplementedError, TypeError, KeyError):
        return None


class _OwnCodeError(Exception):
    """The configuration names code that is not Keras's."""


_REFERENCES = ("name", "keras_history", "input_layers", "output_layers")


def _scrubbed(config: Any, names: dict[str, str], key: str = "") -> Any:  # noqa: ANN401
    """Number the layers in place of names."""
    if isinstance(config, dict):
        if config.get("registered_name") or config.get("class_name") in ("function", "__lambda__", "Lambda"):
            raise _OwnCodeError
        return {name: _scrubbed(value, names, name) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return [_scrubbed(value, names, key) for value in config]
    if isinstance(config, str) and key in _REFERENCES:
        return names.get(config, config)
    if callable(config):
        raise _OwnCodeError
    return config
