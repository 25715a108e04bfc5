"""Keras on another backend is refused in one sentence, before Keras is imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src"


def imported(tmp_path, name, **environment):
    clean = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    return subprocess.run(
        [sys.executable, "-c", f"import {name}; print('imported')"],
        cwd=SRC, capture_output=True, text=True, check=False, env=clean | {"KERAS_HOME": str(tmp_path), **environment},
    )  # fmt: skip


@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize("name", ["helpers", "batchlab"])
def test_another_backend_in_the_environment(tmp_path, backend, name):
    ended = imported(tmp_path, name, KERAS_BACKEND=backend)
    last = ended.stderr.strip().splitlines()[-1]
    assert last == (
        "ImportError: Batch Size Lab compiles Keras's training with TensorFlow, and the environment variable "
        f"KERAS_BACKEND is '{backend}': set it to 'tensorflow', before Keras is imported."
    )
    assert "keras" not in ended.stderr.replace("Keras", "")


def test_another_backend_in_the_file_of_keras(tmp_path):
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "torch"}))
    ended = imported(tmp_path, "batchlab")
    assert f"the backend in {tmp_path / 'keras.json'} is 'torch'" in ended.stderr
    assert imported(tmp_path, "batchlab", KERAS_BACKEND="tensorflow").stdout == "imported\n"


@pytest.mark.parametrize("content", [None, "", "[]", '{"floatx": "float32"}'])
def test_no_backend_is_chosen(tmp_path, content):
    if content is not None:
        (tmp_path / "keras.json").write_text(content)
    assert imported(tmp_path, "batchlab").stdout == "imported\n"
