"""Artifacts in an object store: the layout, complete uploads, verified downloads. Used by the pods of all stages."""
