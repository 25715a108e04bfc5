"""`write_report`: a study as one HTML file that needs nothing else. Never computes a result.

Every text of the table is foreign: Jinja escapes all that is put into the template, and the page's own policy forbids
scripts and every address.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
from datetime import date
from pathlib import Path

import jinja2
import numpy as np

from batchlab.figures.advice import loss_unit, plot_costs, plot_fresh_runs, plot_rates
from batchlab.figures.show import bundle
from batchlab.statistics import Estimate
from batchlab.study.advice import AIMS
from batchlab.study.own import Study
from batchlab.study.trials import FRESH_SEEDS, PILOT_RATES

_PACKAGES = ("tensorflow", "keras", "scikit-learn", "numpy", "pandas")


def write_report(study: Study, path: str | os.PathLike[str]) -> Path:
    """Write a study as an HTML page.

    Args:
        study: What `study_table` returns.
        path: Of the file; folders above it are made.

    Returns:
        The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(study), encoding="utf-8")
    return path


def render(study: Study) -> str:
    """Return the report's HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(figure=_figure, estimate=_estimate, seconds=_seconds, exp=math.exp)
    advice = study.advice
    return environment.get_template("report.html").render(
        study=study,
        table=study.table,
        encoded=study.encoded,
        advice=advice,
        for_aims=[advice.for_aim(aim) for aim in AIMS],
        evidence=advice.table.to_dict("records"),
        chosen=advice.table.set_index("batch_size").loc[advice.batch_size],
        fresh_seeds=len(FRESH_SEEDS),
        pilot_rates=PILOT_RATES,
        columns=study.table.columns.to_dict("records"),
        classes=study.table.target.value_counts().to_dict() if study.table.classes else {},
        unit=loss_unit(study),
        picture=_picture,
        figures={
            "costs": plot_costs(advice),
            "rates": plot_rates(advice),
            "fresh": plot_fresh_runs(study),
        },
        at_once=advice.at_once(),
        versions={name: importlib.metadata.version(name) for name in _PACKAGES} | {"Python": platform.python_version()},
        cores=os.cpu_count(),
        today=date.today().isoformat(),
    )


def _picture(drawn: tuple) -> dict[str, str | int]:
    """A figure's bytes as base64, its alt text and its width in CSS pixels."""
    data, metadata = bundle(*drawn)
    return {"png": data["image/png"], **metadata["image/png"]}


def _figure(value: float) -> str:
    """Three digits, without an exponent where that can be read."""
    if value is None or math.isnan(value):
        return "not measured"
    if math.isinf(value):
        return "never"
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2e}"
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{np.round(value, digits):,.{digits}f}" if abs(value) < 100 else f"{value:,.0f}"


def _seconds(value: float) -> str:
    """A duration in the unit that suits it."""
    if not math.isfinite(value):
        return _figure(value)
    for least, factor, unit in ((1, 1, "s"), (1e-3, 1e3, "ms"), (0, 1e6, "µs")):
        if value >= least:
            return f"{_figure(value * factor)} {unit}"
    return "0 s"


def _estimate(estimate: Estimate | None, unit: str = "") -> str:
    """A figure with its interval."""
    if estimate is None:
        return "not measured"
    said = _seconds if unit == "seconds" else _figure
    value, low, high = map(said, estimate)
    return f"{value} ({low} to {high})" + (f" {unit}" if unit not in ("", "seconds") else "")
