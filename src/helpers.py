"""The vocabulary of the notebooks: load, scale, build, fit, compare, plot. Imports, and no more.

Data flows one way: table -> arrays -> runs -> a long data frame, one row per run and epoch -> figures.
"""

from batchlab import statistics
from batchlab.claims import answer, compare_with_documented, documented_runs, evidence, outcome_of, verdict
from batchlab.cores import one_core_each
from batchlab.environment import report
from batchlab.figures.advice import plot_costs, plot_fresh_runs, plot_rates
from batchlab.figures.estimates import plot_estimates
from batchlab.figures.graphs import plot_graph
from batchlab.figures.ledger import show_ledger, show_page
from batchlab.figures.playground import playground
from batchlab.figures.runs import plot_bands, plot_beside, plot_documented, plot_history
from batchlab.figures.show import show
from batchlab.figures.sliders import sliders
from batchlab.figures.style import colour, subplots
from batchlab.figures.surfaces import plot_contours, plot_surface
from batchlab.ideas import autodiff, checkpointing, descent, recursion
from batchlab.ideas.exercises import check_exercise, show_solution
from batchlab.ledger import ledger, margins
from batchlab.models import OPTIMIZERS, GhostBatchNormalization, build_model
from batchlab.report import write_report
from batchlab.results import METRICS, history_frame
from batchlab.study import cohort, curvature, growth, parallel, scaling, speed, streaming, synthetic, tuning
from batchlab.study.advice import recommend
from batchlab.study.own import study_table
from batchlab.study.phases import Phase, fit_phases
from batchlab.study.summary import sweep_summary
from batchlab.study.sweep import sweep
from batchlab.table.ads import FEATURES, TARGET, load_ads
from batchlab.table.bundled import BUNDLED, load_bundled
from batchlab.table.encoding import split_and_encode
from batchlab.table.own import read_table
from batchlab.table.scaling import scale_features, split_and_scale
from batchlab.table.schema import DataError
from batchlab.training import fit, fit_seeds

__all__ = [
    "BUNDLED",
    "FEATURES",
    "METRICS",
    "OPTIMIZERS",
    "TARGET",
    "DataError",
    "GhostBatchNormalization",
    "Phase",
    "answer",
    "autodiff",
    "build_model",
    "check_exercise",
    "checkpointing",
    "cohort",
    "colour",
    "compare_with_documented",
    "curvature",
    "descent",
    "documented_runs",
    "evidence",
    "fit",
    "fit_phases",
    "fit_seeds",
    "growth",
    "history_frame",
    "ledger",
    "load_ads",
    "load_bundled",
    "margins",
    "one_core_each",
    "outcome_of",
    "parallel",
    "playground",
    "plot_bands",
    "plot_beside",
    "plot_contours",
    "plot_costs",
    "plot_documented",
    "plot_estimates",
    "plot_fresh_runs",
    "plot_graph",
    "plot_history",
    "plot_rates",
    "plot_surface",
    "read_table",
    "recommend",
    "recursion",
    "report",
    "scale_features",
    "scaling",
    "show",
    "show_ledger",
    "show_page",
    "show_solution",
    "sliders",
    "speed",
    "split_and_encode",
    "split_and_scale",
    "statistics",
    "streaming",
    "study_table",
    "subplots",
    "sweep",
    "sweep_summary",
    "synthetic",
    "tuning",
    "verdict",
    "write_report",
]
