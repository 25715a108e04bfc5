"""Make `stand_in.csv`: a synthetic table that may be used where the real one is not at hand.

Run `python data/make_stand_in.py`; it writes the same bytes on every machine. It reads no table: what it
knows is the parametric description below. The ten documented rows (first five, features of the last five) are
set in their places. Randomness is `Generator.random` of a seeded PCG64 alone, shaped with additions,
multiplications and comparisons, so that neither a NumPy release nor a processor's `exp` can change a digit.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

SEED = 100
HEADER = ("User ID", "Gender", "Age", "EstimatedSalary", "Purchased")

# The documented rows: all of the first five, and the two features of the last five.
HEAD = (
    (15624510, "Male", 19, 19000, 0),
    (15810944, "Male", 35, 20000, 0),
    (15668575, "Female", 26, 43000, 0),
    (15603246, "Female", 27, 57000, 0),
    (15804002, "Male", 19, 76000, 0),
)
TAIL_FEATURES = ((46, 41000), (51, 23000), (50, 20000), (36, 33000), (49, 36000))

# Three waves of customers, each older than the one before: rows, centre and half-width of a bell for the age
# in years, youngest age, and the share that earns a top salary.
WAVES = (
    (200, 30.5, 23.0, 18, 0.15),
    (120, 44.5, 26.0, 35, 0.42),
    (80, 46.0, 23.0, 35, 0.21),
)
# Buyers by position: the first 320 rows, which a validation split of 0.2 trains on, and the last 80.
BUYERS = ((0, 320, 92), (320, 400, 51))


def _bell(u: np.ndarray) -> np.ndarray:
    """Turn uniforms [n, 3] into n bell-shaped numbers between -1 and 1 (standard deviation 1/3)."""
    return 2 * u.mean(axis=1) - 1


def _ramp(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Rise from 0 at `low` to 1 at `high`, straight in between."""
    return np.clip((x - low) / (high - low), 0, 1)


def features(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw ages in years [400] and yearly salaries in thousands [400]."""
    ages, salaries = [], []
    for rows, centre, half_width, youngest, top_share in WAVES:
        age = np.clip(np.floor(centre + half_width * _bell(rng.random((rows, 3)))), youngest, 60)
        # People near 40 earn middling salaries, everybody else anything up to 90; a share earns up to 150.
        middle_aged = (age >= 35) & (age <= 42)
        middling = 68 + 30 * _bell(rng.random((rows, 3)))
        anything = 15 + 76 * rng.random(rows)
        top = 85 + 66 * rng.random(rows)
        ordinary = np.where(middle_aged, middling, anything)
        salary = np.where(rng.random(rows) < top_share, top, ordinary)
        ages.append(age)
        salaries.append(np.clip(np.floor(salary), 15, 150))
    return np.concatenate(ages).astype(int), np.concatenate(salaries).astype(int)


def buy_probability(age: np.ndarray, salary: np.ndarray) -> np.ndarray:
    """Give the chance of buying: high for the older, and, past the mid-twenties, for the well paid."""
    by_age = 0.94 * _ramp(age, 42, 48)
    by_salary = 0.90 * _ramp(salary, 80, 92) * _ramp(age, 24, 32)
    return 1 - (1 - by_age) * (1 - by_salary)


def rows(seed: int = SEED) -> list[tuple[int, str, int, int, int]]:
    """Make the 400 rows in the order of `HEADER`."""
    rng = np.random.Generator(np.random.PCG64(seed))
    age, salary = features(rng)
    for position, pair in zip(
        [*range(5), *range(395, 400)], [*(row[2:4] for row in HEAD), *TAIL_FEATURES], strict=True
    ):
        age[position], salary[position] = pair[0], pair[1] // 1000

    # A customer buys when chance falls below the probability; ranking by the margin makes the counts exact.
    margin = buy_probability(age, salary) - rng.random(400)
    margin[:5] = -np.inf  # documented: none of the first five bought
    purchased = np.zeros(400, dtype=int)
    for start, stop, buyers in BUYERS:
        purchased[start + np.argsort(-margin[start:stop], kind="stable")[:buyers]] = 1

    female = rng.random(400) < 0.51
    taken = {row[0] for row in HEAD}
    drawn = dict.fromkeys((15_560_000 + np.floor(260_000 * rng.random(500))).astype(int).tolist())
    ids = [number for number in drawn if number not in taken]
    made = [
        (ids[i], "Female" if female[i] else "Male", int(age[i]), 1000 * int(salary[i]), int(purchased[i]))
        for i in range(400)
    ]
    return [*HEAD, *made[5:]]


def write(path: Path) -> None:
    """Write the table to `path` as UTF-8 with LF line ends."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *rows()])


if __name__ == "__main__":
    write(Path(__file__).with_name("stand_in.csv"))
