"""The quality of a classifier: scores, metrics with intervals, robustness to distorted spelling, and a baseline."""
