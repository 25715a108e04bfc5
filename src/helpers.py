"""The vocabulary of the notebooks: load, scale, build, fit, compare, plot. Imports, and no more.

Data flows one way: table -> arrays -> runs -> a long data frame, one row per run and epoch -> figures.
"""

from batchlab import statistics
from batchlab.claims import compare_with_documented, documented_runs, verdict
from batchlab.environment import report
from batchlab.figures.graphs import plot_graph
from batchlab.figures.runs import plot_bands, plot_documented, plot_history
from batchlab.figures.show import show
from batchlab.figures.sliders import sliders
from batchlab.figures.style import colour, subplots
from batchlab.figures.surfaces import plot_contours, plot_surface
from batchlab.ideas import autodiff, checkpointing, descent, recursion
from batchlab.ideas.exercises import check_exercise, show_solution
from batchlab.models import build_model
from batchlab.results import METRICS, history_frame
from batchlab.table.ads import FEATURES, TARGET, load_ads
from batchlab.table.scaling import scale_features
from batchlab.table.schema import DataError
from batchlab.training import fit, fit_seeds

__all__ = [
    "FEATURES",
    "METRICS",
    "TARGET",
    "DataError",
    "autodiff",
    "build_model",
    "check_exercise",
    "checkpointing",
    "colour",
    "compare_with_documented",
    "descent",
    "documented_runs",
    "fit",
    "fit_seeds",
    "history_frame",
    "load_ads",
    "plot_bands",
    "plot_contours",
    "plot_documented",
    "plot_graph",
    "plot_history",
    "plot_surface",
    "recursion",
    "report",
    "scale_features",
    "show",
    "show_solution",
    "sliders",
    "statistics",
    "subplots",
    "verdict",
]
