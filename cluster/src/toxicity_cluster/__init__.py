"""The embedded cluster: a real single-node Kubernetes built from Go modules, run in one network namespace."""
