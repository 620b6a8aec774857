"""Cross-validation of a training configuration, which judges it on every row of a data set."""
