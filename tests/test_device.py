"""A program runs on the device that is chosen for it, wherever the model is, and gives the same there.

No graphics card is needed: a second processor that TensorFlow is told of stands in for it.
"""

import json
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from keras import layers

import helpers
from batchlab.training.programs import device

SRC = Path(__file__).resolve().parent.parent / "src"


def chain(*widths):
    return keras.Sequential([keras.Input((widths[0],)), *(layers.Dense(units) for units in widths[1:])])


def images():
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3, padding="same")])
    return keras.Sequential([keras.Input((8, 8, 3)), inner, layers.Flatten(), layers.Dense(2)])


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (helpers.build_model, 151),
        (lambda: chain(784, 100), 78_500),
        (images, 64 * (3 * 3 * 3 * 4 + 4) + 64 * 4 * 2 + 2),
        (lambda: keras.Sequential([keras.Input((12, 3)), layers.LSTM(5)]), 12 * 4 * 5 * (3 + 5 + 1)),
    ],
    ids=["documented", "dense", "images", "recurrent"],
)
def test_a_parameter_counts_once_a_position(model, expected):
    assert device.multiplications(model()) == expected


def test_small_updates_stay_on_the_processor_and_large_ones_need_not():
    documented, wide = helpers.build_model(), chain(784, 2048, 10)
    assert [device.device_for(documented, size) for size in (1, 32, 250)] == ["CPU:0"] * 3
    assert [device.device_for(wide, size) for size in (1, 32, 250)] == [None] * 3


def test_runs_side_by_side_are_weighed_against_all_cores(monkeypatch):
    monkeypatch.setattr(device, "process_cores", lambda: 2)
    documented = helpers.build_model()
    assert [device.device_for(documented, 32, runs) for runs in (16, 64, 128)] == ["CPU:0", "CPU:0", None]
    monkeypatch.setattr(device, "process_cores", lambda: 16)
    assert device.device_for(documented, 32, 128) == "CPU:0"
    assert device.device_for(chain(784, 100), 3) is None  # one run has one core, however many there are


SCRIPT = """
import json
import keras, numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from keras import layers
from batchlab import training
from batchlab.training.programs import cache, seeds, single

generator = np.random.default_rng(3)
x = generator.normal(size=(60, 2)).astype(np.float32)
y = (x.sum(axis=1) > 0).astype(np.float32)


class Own(layers.Dense):  # code that a program cannot copy: it works on the model itself
    pass


def model(middle=None):
    inner = [layers.Dense(6, "relu"), *([] if middle is None else [middle()])]
    built = keras.Sequential([keras.Input((2,)), *inner, layers.Dense(1, "sigmoid")])
    built.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return built


made = []
for kind in (single.SingleProgram, seeds.SeedsProgram):
    def remembering(self, *arguments, begin=kind.__init__, **named):
        begin(self, *arguments, **named)
        compiled = self._train if isinstance(self, single.SingleProgram) else self._run
        made.append((type(self).__name__, compiled.device[-1]))
    kind.__init__ = remembering

found = {}
for name in ("CPU:0", "CPU:1"):
    cache.device_for = lambda *_, name=name, **__: name
    figures = []
    for middle in (None, layers.BatchNormalization, lambda: Own(3)):
        one = model(middle)
        training.draw_weights(one, 1)
        for _ in range(2):  # the second time with the optimizer's state of the first
            history = training.fit(one, x, y, batch_size=8, epochs=2, seed=1, validation_split=0.2).history
            figures += history.values()
        figures += [np.concatenate([w.ravel() for w in one.get_weights()])]
        assert all(variable.value.device.endswith("CPU:0") for variable in one.variables)
    frame = training.fit_seeds(model, x, y, seeds=10, batch_size=8, epochs=3)
    figures += [frame["loss"], frame["accuracy"]]
    found[name] = np.concatenate([np.ravel(f) for f in figures])
np.testing.assert_allclose(found["CPU:1"], found["CPU:0"], rtol=1e-6, atol=1e-6)
print(json.dumps(made))
"""


@pytest.mark.thorough
def test_every_program_runs_where_it_is_put_and_gives_the_same():
    command = [sys.executable, "-c", SCRIPT]
    result = subprocess.run(command, cwd=SRC, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads(result.stdout) == [
        *(["SingleProgram", "0"], ["SingleProgram", "0"], ["SingleProgram", "0"], ["SeedsProgram", "0"]),
        *(["SingleProgram", "1"], ["SingleProgram", "1"], ["SingleProgram", "0"], ["SeedsProgram", "1"]),
    ]
