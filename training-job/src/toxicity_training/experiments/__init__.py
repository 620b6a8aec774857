"""A grid of training configurations: planned, run one after another, compared in a table."""
