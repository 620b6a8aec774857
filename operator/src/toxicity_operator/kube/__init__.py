"""What talks to the API server; the only package that imports the Kubernetes client."""
