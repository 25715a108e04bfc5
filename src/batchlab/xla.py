"""XLA's settings for this process, and its compiled programs on disk. Never imports TensorFlow: it reads them once.

TensorFlow can keep what XLA compiled in a folder and take it from there in the next process; it trusts whatever lies
there. So each process gets a folder of its own, with links to those kept programs whose content is what was written:
a kept file carries the SHA-256 of its content in its name. No process ever sees the files of another one half written.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_MAX_BYTES = 128 * 2**20  # of all kept programs; one has about half a MiB
_WEEK_SECONDS = 7 * 24 * 60 * 60
# TensorFlow ends the process over an option that it does not know, and the options of the cache are not documented.
_TRIED = ("2.20", "2.21")
_MARK = ".process-"
_OPTION = "--tf_xla_persistent_cache_directory="

_process: Path | None = None  # this process's folder
_kept: Path | None = None  # where the programs of processes like this one are kept


def set_up() -> None:
    """Set what TensorFlow reads when it is imported or first compiles; settings that are there already stay.

    Without a private folder, and anywhere but on Linux (where it cannot be told which features of the processor
    compiled code uses), nothing is kept on disk, and each process compiles for itself.
    """
    global _kept, _process
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Else the first notebook that is opened takes all of a graphics card's memory.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    # The runs of many seeds lie side by side in vector registers: use the widest there are.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_prefer_vector_width=512")
    key = _key()
    if _process or key is None:
        return
    import platformdirs  # Colab may lack it before `prepare`

    root = Path(platformdirs.user_cache_dir("batch-size-lab", appauthor=False)) / "xla"
    options = os.environ.get("TF_XLA_FLAGS", "")
    inherited = f"{_OPTION}{root}" in options
    if (options and not inherited) or any(character.isspace() for character in str(root)):  # space parts options
        return
    with suppress(OSError):
        _private(root)
        if shutil.disk_usage(root).free < 2 * _MAX_BYTES:
            return
        _clear_away(root)
        _kept = _private(root / key)
        _process = Path(tempfile.mkdtemp(prefix=_MARK, dir=root))
        atexit.register(_leave, os.getpid())
        for file in sorted(_kept.iterdir(), key=_written):
            _take(file, _process)
    if _process:
        os.environ["TF_XLA_FLAGS"] = f"{_OPTION}{_process} --tf_xla_persistent_cache_device_types=CPU"
    elif inherited:
        del os.environ["TF_XLA_FLAGS"]  # the folder of the process that started this one, and gone when that ends


def keep() -> None:
    """Keep what this process compiled since the last call."""
    if _process is None or _kept is None:
        return
    with suppress(OSError):
        known = {file.name.partition(".")[2] for file in _kept.iterdir()}
        for file in _process.glob("*.pb"):
            if file.name not in known:
                content = file.read_bytes()
                # Written beside its place and then renamed: no process finds half a file.
                beside = _process / f"{file.name}.new"
                beside.write_bytes(content)
                beside.replace(_kept / f"{hashlib.sha256(content).hexdigest()}.{file.name}")


def _take(file: Path, folder: Path) -> None:
    """Link a kept file into the folder if its content is what was written, else delete it."""
    digest, _, name = file.name.partition(".")
    if file.is_symlink() or not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
        shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink()
        return
    link = folder / name
    link.unlink(missing_ok=True)  # an older one, of the same program
    link.hardlink_to(file)


def _private(folder: Path) -> Path:
    """Return the folder, which is the user's alone; make it if need be.

    Raises:
        OSError: It cannot be made, is a link, or belongs to somebody else.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise PermissionError(f"{folder} is not this user's own folder")
    folder.chmod(0o700)
    return folder


def _clear_away(root: Path) -> None:
    """Delete the oldest programs beyond the limit, and the folders of processes that ended without doing so."""
    for left in root.glob(f"{_MARK}*"):
        if time.time() - left.stat().st_mtime > _WEEK_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    total = 0
    for file in sorted(root.glob("[!.]*/*"), key=_written, reverse=True):
        total += file.stat().st_size
        if total > _MAX_BYTES:
            file.unlink(missing_ok=True)
    for folder in root.glob("[!.]*"):
        with suppress(OSError):
            folder.rmdir()  # only if it is empty


def _leave(process: int) -> None:
    if os.getpid() == process:  # not a fork of it
        shutil.rmtree(_process, ignore_errors=True)


def _written(file: Path) -> float:
    return file.lstat().st_mtime


def _key() -> str | None:
    """Name the folder for programs that any process like this one may run; None where that cannot be told."""
    try:
        facts = [importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy")]
        processor = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, importlib.metadata.PackageNotFoundError):
        return None
    if not facts[0].startswith(tuple(f"{version}." for version in _TRIED)):
        return None
    features = next((line for line in processor if line.startswith(("flags", "Features"))), None)
    if features is None:
        return None
    facts += [platform.python_version(), platform.machine(), features, os.environ["XLA_FLAGS"]]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
