"""Reads raw Kubernetes objects into frozen dataclasses: Jobs, the Deployment, pods, autoscalers, drift. Pure."""
