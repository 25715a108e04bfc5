"""Where a clone of the repository keeps what is not code. Reads nothing."""

from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]  # where Python finds the packages
ROOT = SOURCE.parent
DATA = ROOT / "data"
