"""What runs: kopf, the controller of passes, the pass itself, metrics and logs."""
