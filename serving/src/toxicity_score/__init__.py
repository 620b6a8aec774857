"""`toxicity-score`: scores the texts of a file through a Service, so that all replicas share the work."""
