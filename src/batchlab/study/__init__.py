"""Comparisons of many runs: sweeps, curvature and gradient noise, advice for a table. Never draws."""
