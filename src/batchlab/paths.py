"""Where a clone of the repository keeps what is not code. Reads nothing."""

from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]  # where Python finds the packages
ROOT = SOURCE.parent
DATA = ROOT / "data"


def in_clone(name: str) -> Path:
    """Return the path of a file that only a clone has.

    Args:
        name: Relative to the clone's root.

    Raises:
        FileNotFoundError: There is none, as after `pip install`.
    """
    if not (ROOT / name).exists():
        raise FileNotFoundError(
            f"{name} is not there: it comes with a clone of the repository, not with an installed batchlab. "
            "Work in a clone, with its src folder on Python's path."
        )
    return ROOT / name
