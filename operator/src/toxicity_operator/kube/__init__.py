"""Requests to the API server, the watches and the cache. Only this package imports the Kubernetes client."""
