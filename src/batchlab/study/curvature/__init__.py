"""How curved a model's loss is at some weights, and how noisy its mini-batch gradients are there. Never trains.

A `LossSurface` is compiled once for a model and its data; everything else asks it, at any weights of the same model.
"""

import batchlab.training  # noqa: F401  it sets XLA up, before TensorFlow is there
from batchlab.study.curvature.noise import (
    NoiseScale,
    critical_batch_size,
    noise_scale,
    noise_scale_of_each,
    simple_noise_scale,
)
from batchlab.study.curvature.recorder import CurvatureRecorder
from batchlab.study.curvature.sharpness import adaptive_sharpness, largest_eigenvalues, perturbation_sharpness
from batchlab.study.curvature.surface import LossSurface, LossSurfaces, NotFiniteError
from batchlab.study.curvature.together import (
    adaptive_sharpness_of_each,
    largest_eigenvalue_of_each,
    perturbation_sharpness_of_each,
)

__all__ = [
    "CurvatureRecorder",
    "LossSurface",
    "LossSurfaces",
    "NoiseScale",
    "NotFiniteError",
    "adaptive_sharpness",
    "adaptive_sharpness_of_each",
    "critical_batch_size",
    "largest_eigenvalue_of_each",
    "largest_eigenvalues",
    "noise_scale",
    "noise_scale_of_each",
    "perturbation_sharpness",
    "perturbation_sharpness_of_each",
    "simple_noise_scale",
]
