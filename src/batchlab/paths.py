"""Where a clone of the repository keeps what is not code. Reads nothing."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"
