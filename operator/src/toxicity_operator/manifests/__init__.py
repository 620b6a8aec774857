"""Builders of the children's manifests, one module per kind and purpose. Pure."""
