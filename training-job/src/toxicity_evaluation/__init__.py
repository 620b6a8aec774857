"""Evaluation stage: the weights that are to be served, asked by the serving engine itself, before they may serve."""
