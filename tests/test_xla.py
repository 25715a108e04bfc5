"""Compiled programs are kept on disk for the next process: privately, within a limit, none that was changed."""

import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from batchlab import xla

SRC = Path(__file__).resolve().parent.parent / "src"
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="programs are kept on Linux only")

SETTINGS = """
import json, os
from pathlib import Path
from batchlab import xla
xla.set_up()
process = xla._process
print(json.dumps({
    "options": os.environ.get("TF_XLA_FLAGS"),
    "process": str(process),
    "taken": sorted(file.name for file in process.iterdir()) if process else None,
    "kept": str(xla._kept),
}))
"""
TRAINING = """
import json
import numpy as np
from batchlab import xla
from batchlab.training import fit, fit_seeds
from batchlab.models import build_model
x = np.random.default_rng(0).normal(size=(40, 2)).astype("float32")
y = (x[:, 0] > 0).astype("float32")
history = fit(build_model(seed=1), x, y, batch_size=8, epochs=2, seed=1).history
frame = fit_seeds(build_model, x, y, seeds=3, batch_size=8, epochs=2)
print(json.dumps([history["loss"], frame["loss"].tolist()]))
"""


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "batch-size-lab" / "xla"


@pytest.fixture
def run(tmp_path):
    """Run code in a new process whose cache folder is the test's own."""

    def run(code, **variables):
        environment = {name: value for name, value in os.environ.items() if name not in ("TF_XLA_FLAGS", "XLA_FLAGS")}
        environment |= {"PYTHONPATH": str(SRC), "XDG_CACHE_HOME": str(tmp_path / "cache")} | variables
        command = [sys.executable, "-W", "error::RuntimeWarning", "-c", code]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[-2000:]
        return json.loads(result.stdout.splitlines()[-1])

    return run


def kept(cache):
    return {file.name: file for file in cache.glob("[!.]*/*")}


def a_program(folder, content=b"program", name="one.pb"):
    """Put a file where `keep` would."""
    import hashlib

    file = folder / f"{hashlib.sha256(content).hexdigest()}.{name}"
    file.write_bytes(content)
    return file


@pytest.mark.thorough
def test_the_next_process_finds_what_was_compiled_and_nothing_that_was_changed(run, cache):
    first = run(TRAINING)
    programs = kept(cache)
    assert len(programs) == 2
    assert not list(cache.glob(".process-*"))
    written = {name: file.stat().st_mtime_ns for name, file in programs.items()}

    assert run(TRAINING) == first
    assert {name: file.stat().st_mtime_ns for name, file in kept(cache).items()} == written

    damaged, other = programs.values()
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    foreign = other.with_name("xla_compile_cache__1__2__XLA_CPU_JIT.pb")
    foreign.write_bytes(other.read_bytes())
    assert run(TRAINING) == first
    assert not foreign.exists()
    assert not damaged.exists() or damaged.read_bytes() != bytes(content)
    names = [{name.partition(".")[2] for name in files} for files in (programs, kept(cache))]
    assert names[0] == names[1]  # the damaged one was compiled anew


def test_the_folders_are_the_users_alone(run, cache):
    cache.mkdir(parents=True, mode=0o755)
    found = run(
        SETTINGS.replace("process = ", "mode = xla._process.stat().st_mode & 0o777; assert mode == 0o700; process = ")
    )
    assert {path.stat().st_mode & 0o777 for path in (cache, Path(found["kept"]))} == {0o700}
    assert found["options"].startswith(f"--tf_xla_persistent_cache_directory={found['process']} ")


def test_a_folder_that_is_a_link_is_not_used(run, cache, tmp_path):
    cache.parent.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    cache.symlink_to(tmp_path / "elsewhere")
    assert run(SETTINGS)["options"] is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_not_used(run, cache):
    cache.mkdir(parents=True)
    os.chown(cache, 65534, 65534)
    assert run(SETTINGS)["options"] is None


def test_a_folder_that_cannot_be_made_does_no_harm(run, tmp_path):
    (tmp_path / "cache").touch()
    assert run(SETTINGS)["options"] is None


def test_a_folder_with_a_space_is_not_used(run, tmp_path):
    assert run(SETTINGS, XDG_CACHE_HOME=str(tmp_path / "a b"))["options"] is None


def test_only_whole_programs_are_taken(run):
    folder = Path(run(SETTINGS)["kept"])
    good = a_program(folder)
    a_program(folder, b"other", "two.pb").write_bytes(b"othe")
    (folder / f"{'0' * 64}.three.pb").symlink_to(good)
    (folder / f"{'0' * 64}.four.pb").mkdir()
    (folder / "five.pb").write_bytes(b"program")
    assert run(SETTINGS)["taken"] == ["one.pb"]
    assert list(folder.iterdir()) == [good]


def test_of_two_programs_of_one_name_the_newer_is_taken(run):
    folder = Path(run(SETTINGS)["kept"])
    old, new = a_program(folder, b"old"), a_program(folder, b"new")
    os.utime(old, (1, 1))
    read = SETTINGS.replace('"taken": ', '"text": (process / "one.pb").read_text(), "taken": ')
    assert run(read)["text"] == "new"
    os.utime(new, (0, 0))
    assert run(read)["text"] == "old"


def test_the_oldest_programs_beyond_the_limit_go_those_of_other_versions_too(run, cache):
    folder = Path(run(SETTINGS)["kept"])
    (cache / "other").mkdir()
    programs = [
        a_program(place, bytes([i]) * 1000, f"{i}.pb") for i, place in enumerate([cache / "other", folder, folder])
    ]
    for age, program in zip((3, 2, 1), programs, strict=True):
        os.utime(program, (time.time() - age,) * 2)
    limited = SETTINGS.replace("xla.set_up()", "xla._MAX_BYTES = 2500\nxla.set_up()")
    assert run(limited)["taken"] == ["1.pb", "2.pb"]
    assert not (cache / "other").exists()


def test_folders_of_ended_processes_go_after_a_week(run, cache):
    old, new = cache / ".process-old", cache / ".process-new"
    old.mkdir(parents=True)
    new.mkdir()
    os.utime(old, (time.time() - 8 * 24 * 3600,) * 2)
    run(SETTINGS)
    assert list(cache.glob(".process-*")) == [new]


def test_a_fork_leaves_the_folder_to_its_parent(run):
    forked = SETTINGS.replace(
        "process = ", "pid = os.fork()\nif not pid: raise SystemExit\nos.waitpid(pid, 0)\nprocess = "
    )
    assert run(forked)["taken"] == []


def test_the_users_own_settings_stay(run):
    assert run(SETTINGS, TF_XLA_FLAGS="--tf_xla_cpu_global_jit")["options"] == "--tf_xla_cpu_global_jit"


def test_a_process_started_by_this_one_has_a_folder_of_its_own(run, cache):
    parent = f"{xla._OPTION}{cache}/{xla._MARK}1 --tf_xla_persistent_cache_device_types=CPU"
    found = run(SETTINGS, TF_XLA_FLAGS=parent)
    assert found["options"].startswith(f"{xla._OPTION}{found['process']} ")
    other = f"{xla._OPTION}/elsewhere"
    assert run(SETTINGS, TF_XLA_FLAGS=other)["options"] == other


def test_versions_features_and_settings_part_the_programs(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--one")
    keys = [xla._key()]
    monkeypatch.setenv("XLA_FLAGS", "--two")
    keys.append(xla._key())
    real = xla.importlib.metadata.version
    monkeypatch.setattr(xla.importlib.metadata, "version", lambda name: real(name) + (name == "keras") * ".1")
    keys.append(xla._key())
    text = Path("/proc/cpuinfo").read_text()
    read = Path.read_text
    cpuinfo = [text.replace("\nflags\t\t:", "\nflags\t\t: next"), "processor: 1\n"]
    monkeypatch.setattr(Path, "read_text", lambda at, **how: cpuinfo[0] if at.name == "cpuinfo" else read(at, **how))
    keys.append(xla._key())
    assert len(set(keys)) == 4
    del cpuinfo[0]
    assert xla._key() is None


def test_the_installed_tensorflow_is_one_that_knows_the_options():
    # Another one gets no options, since TensorFlow ends the process over one that it does not know: try, then add it.
    assert version("tensorflow").rpartition(".")[0] in xla._TRIED
