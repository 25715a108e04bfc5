"""The seam to Keras's insides: a name that a future Keras lacks costs time, never a result."""

import ast
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

from batchlab import training
from batchlab.training import keras_internals as internals
from batchlab.training.programs import cache

SRC = Path(__file__).resolve().parents[1] / "src"
GENERATOR = np.random.default_rng(5)
X = GENERATOR.normal(size=(60, 2)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(np.float32)


def names_read():
    """Every private name that the seam reads, taken from its source, so that none is forgotten here."""
    calls = [node for node in ast.walk(ast.parse(Path(internals.__file__).read_text())) if isinstance(node, ast.Call)]
    return sorted({node.args[1].value for node in calls if getattr(node.func, "id", None) == "_read"})


def model(units=4, *more):
    own = keras.layers.Dense(units, "relu"), *more, keras.layers.Dense(1, "sigmoid")
    built = keras.Sequential([keras.Input((2,)), *own])
    built.compile(keras.optimizers.AdamW(0.01), "binary_crossentropy", metrics=["accuracy"])
    return built


@pytest.fixture
def without(monkeypatch):
    """Make one private name missing for us alone: Keras itself goes on using it."""

    def remove(missing):
        own = internals._read

        def read(owner, name):
            return own(owner, "no_" + name if name == missing else name)

        monkeypatch.setattr(internals, "_read", read)

    return remove


def count_model_fit(monkeypatch):
    calls, own = [], keras.Model.fit
    monkeypatch.setattr(keras.Model, "fit", lambda self, *a, **n: calls.append(1) or own(self, *a, **n))
    return calls


#: What asks for a name that not every run asks for.
CALLBACKS = {
    "_start_batch": lambda folder: [keras.callbacks.TensorBoard(folder, profile_batch=0)],
    "_stop_batch": lambda folder: [keras.callbacks.TensorBoard(folder, profile_batch=0)],
    "_model": lambda folder: [keras.callbacks.EarlyStopping()],
}
SEEDS_ONLY = {"_backend_update_step"}
#: Of TensorFlow, for random layers in many runs.
MAPPED_ONLY = {"_pfor_converter_registry", "wrap"}
#: What runs side by side do without.
FIT_ONLY = {"_compile_loss", "_initial_epoch", "_loss_tracker"}
UNITS = iter(range(5, 1000))


def test_the_names_are_found_in_the_source():
    assert {"_compile_metrics", *CALLBACKS, *SEEDS_ONLY, *MAPPED_ONLY, *FIT_ONLY} <= set(names_read())


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "_compile_metrics" else pytest.mark.thorough)
        for name in names_read()
        if name not in SEEDS_ONLY | MAPPED_ONLY | set(CALLBACKS)
    ],
)
def test_fit_without_a_private_name_trains_through_keras_and_says_which(without, monkeypatch, name):
    units = next(UNITS)  # of a model for which no program waits, which would not ask again
    plain, ours = model(units), model(units)
    ours.set_weights(plain.get_weights())
    arguments = {"batch_size": 16, "epochs": 2, "shuffle": False, "validation_split": 0.2, "verbose": 0}
    expected = plain.fit(X, Y, **arguments).history
    without(name)
    calls = count_model_fit(monkeypatch)
    with pytest.warns(UserWarning, match=f"no_{name}") as caught:
        history = training.fit(ours, X, Y, **arguments)
    ours_alone = [w for w in caught if w.category is UserWarning]  # Colab's versions bring deprecations along
    assert (len(calls), len(ours_alone)) == (1, 1)
    for figure, values in expected.items():
        np.testing.assert_allclose(history.history[figure], values, atol=1e-6)


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_private_name_of_a_callback(without, monkeypatch, tmp_path, name):
    if name != "_model":
        pytest.importorskip("tensorboard")
    without(name)
    calls = count_model_fit(monkeypatch)
    with pytest.warns(UserWarning, match=f"no_{name}"):
        training.fit(model(), X, Y, batch_size=16, epochs=1, callbacks=CALLBACKS[name](str(tmp_path)))
    assert len(calls) == 1


@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name in names_read() if name not in MAPPED_ONLY | set(CALLBACKS)])
def test_fit_seeds_without_a_private_name_gives_the_same_runs_and_says_which(without, name):
    arguments = {"seeds": 2, "batch_size": 16, "epochs": 2, "shuffle": False}
    units = next(UNITS)  # of a model for which no program waits, which would not ask again
    expected = np.vstack([one_by_keras(units, seed, arguments) for seed in range(2)])
    without(name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame = training.fit_seeds(lambda: model(units), X, Y, **arguments)
    told = [str(warning.message) for warning in caught if f"no_{name}" in str(warning.message)]
    # Once for the runs that are not side by side, and once more where even one run is left to Keras.
    assert (name not in FIT_ONLY) <= len(told) <= 2
    assert len(set(told)) == len(told)
    np.testing.assert_allclose(frame[["loss", "accuracy"]], expected, atol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("name", sorted(MAPPED_ONLY))
def test_random_layers_without_a_private_name_are_trained_one_run_after_the_other(without, name):
    units = next(UNITS)
    arguments = {"seeds": 2, "batch_size": 16, "epochs": 2}
    expected = training.fit_seeds(lambda: model(units, keras.layers.Dropout(0.5)), X, Y, **arguments)
    cache._idle.clear()
    without(name)
    with pytest.warns(UserWarning, match=f"no_{name}"):
        frame = training.fit_seeds(lambda: model(units, keras.layers.Dropout(0.5)), X, Y, **arguments)
    np.testing.assert_allclose(frame[["loss", "accuracy"]], expected[["loss", "accuracy"]], atol=1e-5)


def one_by_keras(units, seed, arguments):
    """Loss and accuracy of one run by plain Keras."""
    plain = model(units)
    training.draw_weights(plain, seed)
    named = {name: value for name, value in arguments.items() if name != "seeds"}
    history = plain.fit(X, Y, **named, verbose=0).history
    return np.column_stack([history["loss"], history["accuracy"]])


def private_reads(source):
    """Private attributes of anything but `self` and `cls`, by name or through getattr and its like."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            if node.attr.endswith("_"):  # a protocol of IPython's, such as _repr_mimebundle_
                continue
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield f"line {node.lineno}: .{node.attr}"
        elif isinstance(node, ast.Call) and getattr(node.func, "id", None) in ("getattr", "hasattr", "setattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and str(name.value).startswith("_") and not name.value.startswith("__"):
                yield f"line {node.lineno}: {node.func.id} {name.value}"


def test_no_other_file_reads_a_private_attribute():
    files = [path for path in SRC.rglob("*.py") if path != Path(internals.__file__)]
    assert len(files) > 20
    breaches = [f"{path.relative_to(SRC)}, {found}" for path in files for found in private_reads(path.read_text())]
    assert breaches == []


@pytest.mark.parametrize("source", ["model._compile_loss", "f(x)._fn", "getattr(optimizer, '_use_weight_decay', None)"])
def test_the_rule_sees(source):
    assert len(list(private_reads(source))) == 1
    assert not list(private_reads("self._model.fit(keras.Model.__name__)"))


def test_layers_and_owners_are_found_below_wrappers():
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    outer = keras.Sequential(
        [keras.Input((5, 2)), keras.layers.Bidirectional(keras.layers.GRU(2)), inner, keras.layers.Dense(1)]
    )
    found = internals.layers_of(outer)
    assert len(found) == len({id(layer) for layer in found})
    kinds = [type(layer).__name__ for layer in found]
    assert kinds.count("GRUCell") == 2
    assert kinds.count("Dense") == 2
    owners = internals.owners(outer)
    weights = [variable for variable in outer.variables if "seed_generator" not in variable.path]
    assert len(weights) == 10  # three of each GRU, two of each Dense
    assert all(owners[id(variable)] for variable in weights)


def test_the_state_of_an_optimizer_is_told_apart():
    built = model()
    internals.build(built, (X, Y, None))
    scalars, slots = internals.optimizer_state(built.optimizer, built.trainable_variables)
    assert sorted(variable.name for variable in scalars) == ["iteration", "learning_rate"]
    assert [len(variables) for variables in slots.values()] == [4, 4]


def test_an_optimizer_whose_state_is_not_understood_is_left_to_keras():
    built = model()
    internals.build(built, (X, Y, None))
    built.optimizer.add_variable(shape=(3,), name="riddle")
    with pytest.raises(internals.MissingInternalError, match="belong to no parameter"):
        internals.optimizer_state(built.optimizer, built.trainable_variables)
